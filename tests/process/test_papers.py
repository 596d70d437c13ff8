"""Papers in a real registry: attached where it has no list of its own and where it has, found by Debian's oras, sent once."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from builder.core.bundle.image import BundledImage, BundledLayer
from builder.core.images import oci
from builder.core.images.oci import Descriptor
from builder.core.images.reference import target
from builder.core.papers.papers import KINDS as PAPERS
from builder.core.progress import silent
from builder.core.terms import Mode
from builder.edges.images.layout import Layout
from builder.edges.machine import project
from builder.edges.registry import http as registry_http
from builder.edges.registry import referrers
from builder.edges.registry.blobs import Registry
from builder.edges.registry.referrers import Attachment
from builder.errors import SourceError
from builder.workflows.images import planner
from builder.workflows.papers import commands as papers
from tests import bundles, loopback
from tests.process.registry_server import Seen, Server, proxy
from tests.process.registry_server import registry as run_registry
from tests.process.test_registry_commands import assembled, typed

ROOT = Path(__file__).resolve().parents[2]


def oras(*words: str) -> subprocess.CompletedProcess[str]:
    """Debian's oras, another client than ours."""
    program = shutil.which("oras")
    if program is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "CI installs oras"
        pytest.skip("no oras on this machine (apt-get install oras)")
    return subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder whose images are of today's plan."""
    found = tmp_path_factory.mktemp("papers") / "home"
    assembled(found)
    return found


def discovered(where: str) -> dict[str, Any]:
    """What oras finds at an image, by artifact type; its versions name the list in two ways."""
    found = oras("discover", "--plain-http", "--format", "json", where)
    assert found.returncode == 0, found.stderr
    data = json.loads(found.stdout)
    return {row["artifactType"]: row for row in data.get("manifests") or data["referrers"]}


def pushed(home: Path, host: str, *words: str) -> Any:
    env = {"BAKE_HOME": str(home), "BAKE_PRESET": "starter"}
    done = typed(
        "push", "vad", "--mode", "docker-cpu", "--registry", f"{host}/{home.parent.name}", "--json", *words, env=env
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def printed(home: Path, kind: str) -> str:
    done = typed("images", "vad", "--sbom", kind, env={"BAKE_HOME": str(home), "BAKE_PRESET": "starter"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def written(home: Path, folder: Path) -> Path:
    """All papers of one image, in a folder."""
    if not folder.exists():
        more = {"BAKE_HOME": str(home), "BAKE_PRESET": "starter"}
        done = typed("images", "vad:slim-cpu", "--sbom", "all", "--out", folder, env=more)
        assert done.returncode == 0, done.stderr
    return folder


KINDS = {
    "cyclonedx": "application/vnd.cyclonedx+json",
    "spdx": "application/spdx+json",
    "slsa": "application/vnd.in-toto+json",
    "vex": "application/vnd.openvex+json",
}


def test_what_is_pushed_is_what_oras_finds_and_what_the_command_prints(
    server: Server, home: Path, tmp_path: Path
) -> None:
    """All four kinds, byte for byte; a second push finds them and sends nothing; a dry run asks and sends nothing."""
    with proxy(server.port) as line:
        dry = pushed(home, line.host, "--dry-run")
        assert {p["state"] for p in dry["papers"]} == {"would be attached"}
        assert not [s for s in line.seen if s.method not in ("GET", "HEAD")]
        none = pushed(home, line.host, "--no-papers")
        assert none["papers"] == []
        first = pushed(home, line.host)
        assert {p["state"] for p in first["papers"]} == {"attached"}
        line.seen.clear()
        again = pushed(home, line.host)
        assert {p["state"] for p in again["papers"]} == {"up to date"}
        assert again["on_the_wire_bytes"] == 0
        assert {s.method for s in line.seen} <= {"GET", "HEAD"}
    [reference] = [i["reference"].replace(line.host, server.host) for i in first["images"] if i["name"] == "vad"]
    listed = discovered(reference)
    assert set(listed) == set(KINDS.values())
    for kind, artifact in KINDS.items():
        [row] = [p for p in first["papers"] if p["kind"] == artifact and p["image"] == "vad"]
        assert row["digest"] == listed[artifact]["digest"]
        into = tmp_path / kind
        got = oras("pull", "--plain-http", "-o", str(into), f"{reference.rpartition(':')[0]}@{row['digest']}")
        assert got.returncode == 0, got.stderr
        data = (into / row["file"]).read_bytes()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == row["file_digest"]
        assert data == (written(home, tmp_path / "written") / row["file"]).read_bytes()
    assert printed(home, "vex").encode() == (tmp_path / "written/vad-slim-cpu.openvex.json").read_bytes()


def test_two_clones_write_the_same_papers(home: Path, tmp_path: Path) -> None:
    """Another checkout, another place of the state, another order of hashes, another time zone and locale."""
    clone, other = tmp_path / "clone", tmp_path / "other"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, clone / name)
    assembled(other)
    one = written(home, tmp_path / "one")
    env = {"BAKE_HOME": str(other), "BAKE_PRESET": "starter", "PYTHONPATH": str(clone), "PYTHONHASHSEED": "7"}
    words = ["images", "vad:slim-cpu", "--sbom", "all", "--out", str(tmp_path / "two")]
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from builder.cli import main; sys.exit(main(sys.argv[1:]))", *words],
        env={**os.environ, **env, "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(one.iterdir())) == len(KINDS)
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "two").iterdir()
    }


def test_papers_of_all_images_go_into_a_folder(home: Path, tmp_path: Path) -> None:
    """One for each; what would be several documents on one output is refused, with what to type."""
    env = {"BAKE_HOME": str(home), "BAKE_PRESET": "starter"}
    several = typed("images", "--sbom", "spdx", env=env)
    assert several.returncode == 2
    assert "images align:slim-cpu --sbom spdx" in several.stderr
    done = typed("images", "--sbom", "spdx", "--out", tmp_path / "papers", "--json", env=env)
    rows = json.loads(done.stdout)["papers"]
    assert {Path(row["file"]).name for row in rows} == {p.name for p in (tmp_path / "papers").iterdir()}
    assert "vad-slim-cpu.spdx.json" in {p.name for p in (tmp_path / "papers").iterdir()}
    assert typed("images", "vad", "--sbom", "spd", env=env).returncode == 2
    assert typed("images", "vad", env=env).returncode == 2
    unknown = typed("images", "vat", "--sbom", "spdx", env=env)
    assert unknown.returncode == 3
    assert 'did you mean "vad' in unknown.stderr


def test_an_image_that_no_plan_of_today_has_gets_no_papers(home: Path) -> None:
    """Its parts would be guessed: exit 3, with what to type."""
    env = {"BAKE_HOME": str(home), "BAKE_PRESET": "starter", "BAKE_VARIANT": "full"}
    with_models = typed("images", "asr", "--sbom", "vex", env={**env, "BAKE_PRESET": "tiny-en"})
    assert with_models.returncode == 0, with_models.stderr  # labels name the variant, and the models that it has
    index = home / "layout/images.json"
    saved = index.read_text()
    value = json.loads(saved)
    tag = next(tag for tag in value if tag.endswith("/vad:slim-cpu"))
    value[tag] = value[next(t for t in value if t.endswith("/asr:slim-cpu"))]
    index.write_text(json.dumps(value))
    try:
        other = typed("images", "vad", "--sbom", "spdx", env={**env, "BAKE_VARIANT": "slim"})
    finally:
        index.write_text(saved)
    assert other.returncode == 3
    assert "not of today's code" in other.stderr


# Attaching


@dataclass
class ListingRegistry:
    """A registry that has the referrers API: Debian's, behind what lists the manifests with a subject as they come."""

    target: int
    port: int = 0
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextlib.contextmanager
def listing_registry(target_port: int) -> Iterator[ListingRegistry]:
    state = ListingRegistry(target_port)

    class Handler(loopback.Handler):
        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if "/referrers/" in self.path:
                rows = state.rows.get(self.path.rpartition("/")[2], [])
                index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": rows}
                return self.reply(200, json.dumps(index).encode(), Content_Type=oci.INDEX)
            line = http.client.HTTPConnection("127.0.0.1", state.target, timeout=30)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "content-length")}
            line.request(self.command, self.path, body=body, headers={**headers, "Content-Length": str(len(body))})
            answer = line.getresponse()
            data = answer.read()
            more = {}
            if self.command == "PUT" and "/manifests/" in self.path:
                state.puts.append(self.path.rpartition("/")[2])
                value = json.loads(body)
                if "subject" in value and answer.status == 201:
                    row = {**oci.describe(oci.MANIFEST, body).json, "artifactType": value["artifactType"]}
                    state.rows.setdefault(value["subject"]["digest"], []).append(row)
                    more = {"OCI-Subject": value["subject"]["digest"]}
            self.send_response(answer.status)
            for name, value in [*answer.getheaders(), *more.items()]:
                if name.lower() not in ("connection", "transfer-encoding", "date", "content-length"):
                    self.send_header(name, value)
            head = self.command == "HEAD"
            self.send_header("Content-Length", answer.getheader("Content-Length", "0") if head else str(len(data)))
            self.end_headers()
            if not head:
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = pass_on

    server = loopback.server_of(Handler)
    state.port = server.server_port
    with loopback.answering(server):
        yield state


def connected(host: str, tmp: Path) -> tuple[registry_http.Http, Registry]:
    found = registry_http.connect(
        target(f"{host}/x", where="test"),
        login=None,
        authorities="",
        insecure=lambda: False,
        stop=registry_http.StopSignal(),
    )
    return found, Registry(found, tmp / "uploads")


def subject_in(line: registry_http.Http, registry: Registry, repository: str) -> Descriptor:
    """An image, pushed."""
    config = json.dumps({"made for": repository}).encode()
    blob = oci.describe(oci.CONFIG, config)
    registry.send(repository, blob, lambda _: iter([config]), lambda _: None)
    manifest = oci.manifest(blob, [])
    found = oci.describe(oci.MANIFEST, manifest)
    registry.put_manifest(repository, "one", found, manifest)
    return found


def paper(subject: Descriptor, text: str) -> Attachment:
    return Attachment(
        subject=subject,
        artifact_type="application/x.test",
        media_type="text/plain",
        data=text.encode(),
        name=f"{text}.txt",
    )


def test_a_registry_that_lists_by_itself_gets_no_tag(server: Server, tmp_path: Path) -> None:
    """OCI-Subject in its answer is enough; what it lists isn't sent again."""
    with listing_registry(server.port) as line:
        talk, registry = connected(line.host, tmp_path)
        subject = subject_in(talk, registry, "x/api")
        wanted = {"x/api": [paper(subject, "a"), paper(subject, "b")]}
        lacked = referrers.bring(talk, registry, wanted, dry_run=False, on_progress=silent)
        assert len(lacked["x/api"]) == 2
        assert [p for p in line.puts if p.startswith("sha256-")] == []
        listed = referrers.listed(talk, "x/api", subject.digest)
        assert listed.api
        assert listed.digests == {one.descriptor.digest for one in wanted["x/api"]}
        sent = talk.sent
        assert referrers.bring(talk, registry, wanted, dry_run=False, on_progress=silent) == {"x/api": ()}
        assert talk.sent == sent


def test_what_others_attached_stays(server: Server, tmp_path: Path) -> None:
    """oras attaches a file; ours joins it, in the same index, and oras finds both."""
    talk, registry = connected(server.host, tmp_path)
    subject = subject_in(talk, registry, "x/others")
    (tmp_path / "note.txt").write_text("theirs")
    where = f"{server.host}/x/others@{subject.digest}"
    words = ("attach", "--plain-http", "--artifact-type", "text/theirs", "--disable-path-validation")
    theirs = oras(*words, where, str(tmp_path / "note.txt"))
    assert theirs.returncode == 0, theirs.stderr
    referrers.attach(talk, registry, "x/others", [paper(subject, "ours")])
    assert set(discovered(where)) == {"text/theirs", "application/x.test"}


def test_odd_rows_of_others_are_kept_as_they_are(server: Server, tmp_path: Path) -> None:
    """Whoever wrote them knows why; ours joins them."""
    talk, registry = connected(server.host, tmp_path)
    subject = subject_in(talk, registry, "x/odd")
    theirs = paper(subject, "theirs")
    referrers.attach(talk, registry, "x/odd", [theirs])
    tag = referrers.fallback_tag(subject.digest)
    odd = {**theirs.entry, "annotations": {"since": "2026"}, "platform": {"os": "linux", "architecture": "amd64"}}
    index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [odd], "annotations": {"of": "theirs"}}
    referrers._put(talk, "x/odd", tag, oci.INDEX, oci.dump(index))
    referrers.attach(talk, registry, "x/odd", [paper(subject, "ours")])
    found = referrers._tagged(talk, "x/odd", subject.digest)
    assert found == {**index, "manifests": [odd, paper(subject, "ours").entry]}


def test_a_writer_that_came_between_is_noticed(server: Server, tmp_path: Path) -> None:
    """Another client read the index before us and writes it after us: ours is added again."""
    talk, registry = connected(server.host, tmp_path)
    subject = subject_in(talk, registry, "x/between")
    tag = referrers.fallback_tag(subject.digest)
    rival = paper(subject, "rival")
    came = threading.Event()

    def fault(seen: Seen) -> int | None:
        before = line.seen[-2] if len(line.seen) > 1 else seen
        if before.method == "PUT" and before.path.endswith(tag) and not came.is_set():
            came.set()
            other, _ = connected(server.host, tmp_path)
            index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [rival.entry]}
            referrers._put(other, "x/between", tag, oci.INDEX, oci.dump(index))
        return None

    referrers.attach(talk, registry, "x/between", [rival])
    with proxy(server.port, fault=fault) as line:
        mine, through = connected(line.host, tmp_path)
        referrers.attach(mine, through, "x/between", [paper(subject, "ours")])
    assert came.is_set()
    digests = referrers.listed(talk, "x/between", subject.digest).digests
    assert digests == {rival.descriptor.digest, paper(subject, "ours").descriptor.digest}


def test_a_tag_that_is_something_else_is_left_alone(server: Server, tmp_path: Path) -> None:
    """Somebody has an image under the name that would list ours: exit 4, and it is still theirs."""
    talk, registry = connected(server.host, tmp_path)
    subject = subject_in(talk, registry, "x/taken")
    tag = referrers.fallback_tag(subject.digest)
    config = oci.describe(oci.CONFIG, b'{"made for": "x/taken"}')
    manifest = oci.manifest(config, [])
    registry.put_manifest("x/taken", tag, oci.describe(oci.MANIFEST, manifest), manifest)
    with pytest.raises(SourceError, match="can't be read"):
        referrers.attach(talk, registry, "x/taken", [paper(subject, "ours")])
    assert registry.manifest("x/taken", tag) == oci.digest(manifest)


@pytest.mark.parametrize(
    "answer",
    [b"[]", b"{", b'{"manifests": {}}', b'{"manifests": [], "mediaType": 3}', b"[" * 100_000],
    ids=["list", "cut", "object", "type", "deep"],
)
def test_a_list_that_isnt_one_is_an_error_and_no_crash(tmp_path: Path, answer: bytes) -> None:
    """A registry may send anything."""

    class Handler(loopback.Handler):
        def do_GET(self) -> None:
            kind = oci.INDEX if "/referrers/" in self.path else "text/plain"
            self.reply(200, answer if "/referrers/" in self.path else b"{}", Content_Type=kind)

    server = loopback.server_of(Handler)
    with loopback.answering(server):
        talk, _ = connected(f"127.0.0.1:{server.server_port}", tmp_path)
        with pytest.raises(SourceError, match="can't be read"):
            referrers.listed(talk, "x/odd", f"sha256:{'a' * 64}")


def test_rows_that_cant_be_read_are_skipped() -> None:
    """What somebody else wrote into an index doesn't hide the rest of it."""
    good = {"mediaType": oci.MANIFEST, "digest": f"sha256:{'a' * 64}", "size": 1, "annotations": None}
    rows: list[Any] = [3, {}, {"mediaType": "x"}, {**good, "size": "many"}, {**good, "annotations": [1]}, good]
    rows += [{**good, "size": float("inf")}, {**good, "digest": "../../x"}, {**good, "digest": ["x"]}]
    assert [r.descriptor.digest for r in referrers._rows({"manifests": rows})] == [good["digest"]]


# Bundles


def test_a_bundles_papers_are_about_what_travels(home: Path, tmp_path: Path) -> None:
    """All images by the digests that they have there, models that no image has, wheels of the native set; twice the same."""
    env = {"BAKE_HOME": str(home)}
    config = project.load(ROOT, env=env, overrides={"mode": "docker-cpu", "preset": "starter"})
    layout = Layout(config.paths.layout, config.paths.models)
    made = planner(config)(Mode.DOCKER_CPU, config.defaults.variant, replace(config.base, kind="debian", reference=""))
    planned = [image for image in made.plan.images if image.name in ("base", "asr")]
    layer = BundledLayer(digest="sha256:1", size=1, diff_id="sha256:2", unpacked=1, media_type="x")
    images = [
        BundledImage(name=i.tag, stage=i.stage, config=layout.image(i.tag).written.config, layers=(layer,))
        for i in planned
    ]
    wheel = tmp_path / "some_thing-1.5-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    native = (config.models["tiny.en"], config.pins["tiny.en"])
    found = papers.of_bundle(config, layout, made, images, models=[native], wheels={wheel.name: wheel})
    assert found == papers.of_bundle(config, layout, made, images, models=[native], wheels={wheel.name: wheel})
    assert set(found) == {f"papers/bundle{kind.suffix}" for kind in PAPERS.values()}
    subjects = json.loads(found["papers/bundle.intoto.json"])["subject"]
    assert [s["digest"]["sha256"] for s in subjects] == [oci.digest(i.manifest).removeprefix("sha256:") for i in images]
    names = {p["name"]: p for p in json.loads(found["papers/bundle.cdx.json"])["components"]}
    assert {"asr", "base", "tiny.en", "base-files", "some-thing"} <= set(names)
    assert names["some-thing"]["hashes"][0]["content"] == hashlib.sha256(b"wheel").hexdigest()
    alone = papers.of_bundle(config, layout, made, (), models=[native], wheels={})
    assert set(alone) == {"papers/bundle.cdx.json", "papers/bundle.spdx.json"}


def test_a_bundle_gives_its_paper_as_it_went_in(tmp_path: Path) -> None:
    """Checked against the inventory; one that it hasn't got is said, and damage is, too."""
    data = b'{\n "a": 1\n}\n'
    bundles.three(weights=1000).write(tmp_path / "bundle", extras={"papers/bundle.cdx.json": data})
    done = typed("bundle", "inspect", tmp_path / "bundle", "--sbom", "cyclonedx")
    assert done.stdout.encode() == data, done.stderr
    out = typed("bundle", "inspect", tmp_path / "bundle", "--sbom", "cyclonedx", "--out", tmp_path / "out", "--json")
    assert json.loads(out.stdout)["papers"][0]["digest"] == oci.digest(data)
    assert (tmp_path / "out/bundle.cdx.json").read_bytes() == data
    assert typed("bundle", "inspect", tmp_path / "bundle", "--sbom", "spdx").returncode == 3
    part = next((tmp_path / "bundle").glob("whisperbake.tar.*"))
    raw = bytearray(part.read_bytes())
    raw[raw.index(data)] ^= 1
    part.write_bytes(raw)
    assert typed("bundle", "inspect", tmp_path / "bundle", "--sbom", "cyclonedx").returncode == 5
