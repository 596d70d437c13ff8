"""What a container of ``load.py --run`` may do on a real engine: the rights of compose.yaml, tried from inside."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from builder.core.bundle.image import PLAIN, BundledLayer
from builder.core.images.oci import digest
from builder.core.jobs import sandbox
from builder.receiver.engine import EngineSocket
from builder.receiver.inventory import LoaderError
from builder.receiver.jobs import job as folders
from builder.receiver.jobs import run as running
from tests import bundles
from tests.engine.conftest import Engine

SCRIPT = """
cd /job
tried() { if (eval "$1") 2>/dev/null; then echo "$2=yes"; else echo "$2=no"; fi >> output/rights; }
tried 'echo x >> job.yaml' recipe
tried 'echo x > input/new' input
tried 'echo x > new' folder
tried 'echo x > logs/new' logs
tried 'echo x > /new' root
tried 'echo x > work/new' work
tried 'echo x >> events.jsonl' events
tried 'echo x > /tmp/new' tmp
tried 'read line < input/01.mp4' recording
while read key value rest; do
  case "$key" in
    Uid:|Gid:|CapEff:|CapBnd:|NoNewPrivs:) echo "$key$value" >> output/rights ;;
  esac
done < /proc/self/status
while read interface rest; do
  case "$interface" in *:) echo "interface=$interface" >> output/rights ;; esac
done < /proc/net/dev
read pids < /sys/fs/cgroup/pids.max && echo "pids=$pids" >> output/rights
read memory < /sys/fs/cgroup/memory.max && echo "memory=$memory" >> output/rights
read swap < /sys/fs/cgroup/memory.swap.max && echo "swap=$swap" >> output/rights
read quota period < /sys/fs/cgroup/cpu.max && echo "cpus=$quota/$period" >> output/rights
exit 0
"""


def shell() -> bytes:
    """A tar with this machine's sh and the libraries that it needs."""
    listed = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True).stdout.split()
    files = {"/bin/sh", *(word for word in listed if word.startswith("/"))}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(files):
            data = Path(name).resolve().read_bytes()
            info = tarfile.TarInfo(name.lstrip("/"))
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def image(engine: Engine, tmp_path: Path) -> str:
    """An image whose entry point tries what it may; loaded by the bundle's own loader."""
    made = bundles.Set()
    tar = shell()
    layer = BundledLayer(
        digest=digest(tar), size=len(tar), diff_id=digest(tar), unpacked=len(tar), media_type=PLAIN, model="sh"
    )
    made.blobs[layer.digest] = tar
    made.image("sandboxed", [layer], Entrypoint=["/bin/sh", "-c", SCRIPT])
    made.write(tmp_path / "bundle")
    subprocess.run(
        ["python3", "-I", str(tmp_path / "bundle/load.py"), "--to", str(tmp_path / "target"), "--allow-unsigned"],
        env={"PATH": "/usr/bin:/bin", "DOCKER_HOST": engine.host},
        cwd=tmp_path,
        check=True,
    )
    inventory = json.loads((tmp_path / "target/inventory.json").read_bytes())
    return str(inventory["images"][0]["id"])


def test_a_container_may_write_results_and_nothing_else(engine: Engine, image: str, tmp_path: Path) -> None:
    """User, mounts, capabilities, network, processes, memory, swap and processors, as the container sees them."""
    stages = [{"name": "sandboxed", "needs": [], "models": {}, "settings": {}}]
    (tmp_path / "template.json").write_text(json.dumps({"inputs": [{"id": "01"}], "stages": stages}))
    (tmp_path / "call.mp4").write_bytes(b"sound\n")
    folder = tmp_path / "job"
    job = folders.new_job(tmp_path / "template.json", tmp_path / "call.mp4", "call.mp4", folder)
    recipe = (folder / "job.yaml").read_bytes()
    try:
        running.run_job(
            EngineSocket(engine.host),
            {"sandboxed": image},
            job,
            folder,
            lambda _: None,
            sandbox=sandbox.as_data(),
            memory={"sandboxed": 256_000_000},
        )
    except LoaderError as error:
        pytest.fail(error.what)
    lines = (folder / "output/rights").read_text().split()
    rights = dict(line.replace(":", "=", 1).split("=", 1) for line in lines if not line.startswith("interface="))
    may = {key for key, value in rights.items() if value == "yes"}
    assert may == {"work", "events", "tmp", "recording"}
    assert (rights["Uid"], rights["Gid"]) == ("65532", "0")
    assert int(rights["CapEff"], 16) == int(rights["CapBnd"], 16) == 0
    assert rights["NoNewPrivs"] == "1"
    assert [line for line in lines if line.startswith("interface=")] == ["interface=lo:"]
    assert (folder / "job.yaml").read_bytes() == recipe
    if "pids" in rights:  # cgroup v2, with these controllers handed down
        assert rights["pids"] == "1024"
    if "memory" in rights:
        assert abs(int(rights["memory"]) - 256_000_000) < 4096
        assert rights["swap"] == "0"
    if "cpus" in rights:
        assert rights["cpus"] == f"{engine.client.info()['NCPU'] * 100_000}/100000"
