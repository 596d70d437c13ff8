"""`models lock` against a hub on this machine: what it pins, what it shows, and what it refuses to do silently."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from builder.core.terms import Purpose
from builder.core.weights import lock as lock_of
from builder.core.weights.model import Convert, FilePin, Model, Pin, UrlSource
from builder.edges.machine import project
from builder.edges.system import shell
from builder.edges.weights import pinning
from builder.edges.weights.fetch import fetch_models
from builder.edges.weights.store import Store
from builder.errors import IntegrityError, SourceError
from tests import loopback, small_project
from tests.small_project import Small
from tests.unit.test_convert import zipped
from tests.unit.test_int8 import SMALL, converted
from tests.unit.test_int8 import model as weights
from tests.unit.test_wav2vec2 import state

OLD, NOW, NEXT = "a" * 40, "c" * 40, "d" * 40
FILES = {
    "model.bin": b"weights of today" * 1000,
    "config.json": b'{"now": 1}',
    "README.md": b"read me",
    ".gitattributes": b"x",
    "flax_model.msgpack": b"not wanted" * 500,
}
ENTRY = "hub: org/m, include: [model.bin, '*.json']"


class Hub:
    """One repository: what it has, at which commit, after which others."""

    def __init__(self) -> None:
        self.files: Mapping[str, bytes] = FILES
        self.commits: list[str] | None = [NOW, OLD]
        self.licence = "mit"
        self.refuse: tuple[int, str, str] | None = None
        self.address = ""


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(loopback.Handler):
        def do_HEAD(self) -> None:
            path = self.path.split("?")[0]
            head = (state.commits or [NOW])[0]
            if state.refuse and "/org/m" in path:
                status, code, message = state.refuse
                return self.reply(status, b"", X_Error_Code=code, X_Error_Message=message)
            if path == "/api/models/org/m":
                return self.reply(
                    200,
                    json.dumps(
                        {
                            "id": "org/m",
                            "sha": head,
                            "cardData": {"license": state.licence},
                            "siblings": [self.entry(n, d) for n, d in state.files.items()],
                        }
                    ).encode(),
                )
            if path.startswith("/api/models/org/m/commits/") and state.commits:
                listed = [
                    {"id": c, "title": "t", "message": "", "authors": [], "date": "2026-01-01T00:00:00.000Z"}
                    for c in state.commits
                ]
                return self.reply(200, json.dumps(listed).encode())
            if (match := re.fullmatch(r"/org/m/resolve/([0-9a-f]+)/(.+)", path)) and match[2] in state.files:
                data = state.files[match[2]]
                return self.reply(200, data, X_Repo_Commit=match[1], ETag=f'"{hashlib.sha1(data).hexdigest()}"')
            return self.reply(404, b"", X_Error_Code="RepoNotFound")

        do_GET = do_HEAD

        def entry(self, name: str, data: bytes) -> dict[str, Any]:
            lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            return {
                "rfilename": name,
                "size": len(data),
                "blobId": "0" * 40,
                **({"lfs": lfs} if len(data) > 99 else {}),
            }

    server = loopback.server_of(Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    with loopback.answering(server):
        yield state


def make(root: Path, files: Mapping[str, bytes] | None, revision: str = OLD, *, int8: bool = False) -> Path:
    """A project whose lock pins model ``m`` (or doesn't).

    Args:
        int8: it is Whisper's, and has a form in int8.
    """
    entry, purpose = (f"{ENTRY}, int8: true", "asr") if int8 else (ENTRY, "other")
    small = Small(entry=entry, purpose=purpose, files=files or {"x": b"x"}, revision=revision)
    small_project.make(root, {"m": small}, fill=False)
    if files is None:
        lock = root / "models.lock"
        lock.write_text(re.sub(r"  m:\n(    .*\n)+", "", lock.read_text()))
    return root


def bake(root: Path, hub: Hub, *words: str, **env: str) -> shell.Done:
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(root / "hf"), "NO_PROXY": "127.0.0.1"}
    return small_project.bake(root, *words, env={**own, **env})


def lock(root: Path, hub: Hub, *words: str, **env: str) -> shell.Done:
    return bake(root, hub, "models", "lock", *words, **env)


def pin(root: Path) -> Any:
    return project.load(root, env={}).pins.get("m")


def test_a_model_is_pinned_with_what_the_catalogue_includes(tmp_path: Path, hub: Hub) -> None:
    """Commit, sizes, sha256 (of files outside of LFS too), licence; no read-me, nothing that is not included."""
    root = make(tmp_path, None)
    before = (root / "models.lock").read_text()
    done = lock(root, hub, "m")
    assert done.code == 0, done.err
    found = pin(root)
    assert (found.revision, found.licence) == (NOW, "mit")
    assert {f.path: (f.size, f.sha256) for f in found.files} == {
        n: (len(FILES[n]), hashlib.sha256(FILES[n]).hexdigest()) for n in ("model.bin", "config.json")
    }
    assert "m: not pinned → cccccccccccc" in done.out
    assert "+ model.bin" in done.out
    assert done.err == "lock m: asking the hub\n"
    # Only lines of this model came to the lock.
    after = (root / "models.lock").read_text().splitlines()
    assert [line for line in before.splitlines() if line not in after] == []


def test_a_pin_stays_unless_it_is_named_for_an_update(tmp_path: Path, hub: Hub) -> None:
    """`models lock m` is no update; `--update m` shows each file that changes, forward in the history."""
    root = make(tmp_path, {"model.bin": b"weights of old" * 1000, "config.json": FILES["config.json"]})
    text = (root / "models.lock").read_text()
    done = lock(root, hub, "m")
    assert "--update m" in done.out
    assert (root / "models.lock").read_text() == text
    done = lock(root, hub, "--update", "m", "--dry-run")
    assert (root / "models.lock").read_text() == text
    assert "~ model.bin    14.0 kB" in done.out
    assert "config.json" not in done.out
    done = lock(root, hub, "--update", "m", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["after"] == NOW
    assert pin(root).revision == NOW


def only(root: Path) -> Path:
    """A project whose lock pins nothing but ``m``: the hub has no other."""
    lock = root / "models.lock"
    content = yaml.safe_load(lock.read_text())
    lock.write_text(yaml.safe_dump({**content, "models": {"m": content["models"]["m"]}}))
    return root


def test_what_is_outdated_is_told_and_updated_at_once(tmp_path: Path, hub: Hub) -> None:
    """Exit code 1 while a pin is behind, 0 afterwards; telling writes nothing."""
    old = {"model.bin": b"weights of old" * 1000, "config.json": FILES["config.json"]}
    root = only(make(tmp_path, old))
    text = (root / "models.lock").read_text()
    done = bake(root, hub, "models", "outdated")
    assert done.code == 1
    assert "~ model.bin" in done.out
    assert "0 of 1 pinned models are what the hub has" in done.out
    assert "models lock --update m" in done.err
    told = json.loads(bake(root, hub, "models", "outdated", "m", "--json").out)
    assert [(entry["id"], entry["before"], entry["after"]) for entry in told["result"]] == [("m", OLD, NOW)]
    assert lock(root, hub, "--update-all", "--dry-run").code == 0
    assert (root / "models.lock").read_text() == text
    assert lock(root, hub, "--update-all").code == 0
    assert pin(root).revision == NOW
    done = bake(root, hub, "models", "outdated")
    assert (done.code, done.out) == (0, "1 of 1 pinned models are what the hub has\n")


def test_of_a_model_without_a_pin_nothing_is_outdated(tmp_path: Path, hub: Hub) -> None:
    done = bake(make(tmp_path, None), hub, "models", "outdated", "m")
    assert done.code == 2
    assert "models lock m" in done.err


def test_a_hub_that_does_not_answer_is_no_news(tmp_path: Path, hub: Hub) -> None:
    """Exit code 4: a CI that goes on at 0 and at 1 must not take it for either."""
    hub.refuse = (500, "", "down")
    assert bake(only(make(tmp_path, dict(FILES))), hub, "models", "outdated").code == 4


WHEELS = f"{ENTRY}, wheels: {{'w==1': '{'0' * 64}'}}, files: {{model.bin: ['w==1:m.bin']}}, target: onnx/m"


def test_a_model_that_wheels_have_too_is_updated(tmp_path: Path, hub: Hub) -> None:
    """Its sources are a mapping, which has no hash: every model of the first preset. Named twice, it is asked for once."""
    old = {"model.bin": b"weights of old" * 1000, "config.json": FILES["config.json"]}
    small_project.make(tmp_path, {"m": Small(entry=WHEELS, files=old, revision=OLD)}, fill=False)
    done = lock(tmp_path, hub, "m", "--update", "m", "--json")
    assert done.code == 0, done.err
    assert [entry["after"] for entry in json.loads(done.out)] == [NOW]
    assert pin(tmp_path).revision == NOW


@pytest.mark.parametrize(
    ("pinned", "revision", "commits", "says"),
    [
        ({"model.bin": b"newer" * 999}, NEXT, [NOW, OLD], "is not among the commits"),
        ({"model.bin": b"newer" * 999}, NEXT, None, "may be newer"),
        ({"model.bin": b"older" * 999, "vocab.json": b"{}"}, OLD, [NOW, OLD], "vocab.json is gone"),
        ({"model.bin": b"other" * 999, "config.json": b"{}"}, NOW, [NOW, OLD], "another file under the same commit"),
    ],
)
def test_a_pin_is_never_lowered_silently(
    tmp_path: Path, hub: Hub, pinned: dict[str, bytes], revision: str, commits: list[str] | None, says: str
) -> None:
    """An older commit, a hub that can't tell, a file that is gone, a commit with other bytes: --force, or nothing."""
    hub.commits = commits
    root = make(tmp_path, pinned, revision)
    text = (root / "models.lock").read_text()
    done = lock(root, hub, "--update", "m")
    assert done.code == 5
    assert says in done.err
    assert "--force" in done.err
    assert (root / "models.lock").read_text() == text
    assert lock(root, hub, "--update", "m", "--force").code == 0
    assert pin(root).revision == NOW


def test_a_licence_that_changed_is_shown(tmp_path: Path, hub: Hub) -> None:
    """The catalogue says MIT; the repository no longer does."""
    hub.licence = "cc-by-nc-4.0"
    assert "! licence: the hub says cc-by-nc-4.0, models.yaml says MIT" in lock(make(tmp_path, None), hub, "m").out


@pytest.mark.parametrize(
    ("refuse", "says"),
    [
        ((401, "", "Invalid credentials in Authorization header"), "refuses the token"),
        ((401, "GatedRepo", "Please log in."), "wants a token"),
        ((404, "RepoNotFound", ""), "no such repository"),
        ((503, "", ""), "answered 503"),
    ],
)
def test_a_hub_that_refuses_leaves_the_lock(tmp_path: Path, hub: Hub, refuse: tuple[int, str, str], says: str) -> None:
    """Exit code 4, the reason, and models.lock as it was."""
    hub.refuse = refuse
    root = make(tmp_path, None)
    text = (root / "models.lock").read_text()
    done = lock(root, hub, "m", **({"HF_TOKEN": "hf_x"} if "credentials" in refuse[2] else {}))
    assert done.code == 4, done.err
    assert says in done.err
    assert (root / "models.lock").read_text() == text


def test_one_that_is_refused_stops_no_other(tmp_path: Path, hub: Hub) -> None:
    """What the hub told is written; what it did not is the failure, by name."""
    root = make(tmp_path, None)
    done = lock(root, hub, "wav2vec2-nl", "m")
    assert done.code == 4
    assert "wav2vec2-nl: no such repository" in done.err
    assert pin(root).revision == NOW


def test_names_that_no_lock_could_hold_are_refused(tmp_path: Path, hub: Hub) -> None:
    """A hub that names a path out of its folder is not believed."""
    hub.files = {"up/../../../etc/cron.json": b"x" * 200}
    root = make(tmp_path, None)
    done = lock(root, hub, "m")
    assert done.code == 5
    assert "can't be pinned" in done.err


LABELS = "<blank> a b"
CONVERT = Convert(how="wav2vec2-onnx", source="a.pt", result="b.onnx", labels=LABELS)


@pytest.fixture
def checkpoint() -> Iterator[tuple[str, list[bytes]]]:
    """An address that redirects to a file, and what the file is: the last of these."""
    bodies = [zipped(state(early=False, labels=LABELS, layers=1))]

    class Handler(loopback.Handler):
        def do_GET(self) -> None:
            if self.path == "/a.pt":
                return self.reply(302, b"", Location="/there")
            return self.reply(200, bodies[-1])

    server = loopback.server_of(Handler)
    with loopback.answering(server):
        yield f"http://127.0.0.1:{server.server_port}/a.pt", bodies


def of_address(url: str, convert: Convert | None) -> Model:
    sources = (UrlSource(url=url),)
    return Model(
        id="u", purpose=Purpose.ALIGNMENT, title="t", licence="MIT", target="onnx/u", sources=sources, convert=convert
    )


def test_a_file_at_an_address_is_pinned_and_what_it_is_converted_into(
    tmp_path: Path, checkpoint: tuple[str, list[bytes]]
) -> None:
    """By its bytes, which are all that is known of it; a fetch makes the same ones. Nothing else stays."""
    url, bodies = checkpoint
    model = of_address(url, CONVERT)
    found = pinning.resolve(model, token=None, env={}, scratch=tmp_path / "in").pin
    digest = hashlib.sha256(bodies[0]).hexdigest()
    assert (found.revision, found.records) == (digest[:12], (url,))
    assert found.source_files == (FilePin(path="a.pt", size=len(bodies[0]), sha256=digest),)
    assert lock_of.parse_lock(lock_of.dump_lock({"u": found}), known={"u": model}) == {"u": found}
    assert list((tmp_path / "in").iterdir()) == []
    store = Store(tmp_path / "store")
    fetch_models(store, [(model, found)], env={}, on_progress=lambda _: None)
    assert store.verify(model, found, deep=True) == ()
    assert [path.name for path in store.folder(model, found).iterdir()] == ["b.onnx"]
    plain = pinning.resolve(of_address(url, None), token=None, env={}, scratch=tmp_path / "in").pin
    assert plain == Pin(revision=digest[:12], files=found.source_files, records=(url,))


def test_an_address_with_another_file_is_not_pinned(tmp_path: Path, checkpoint: tuple[str, list[bytes]]) -> None:
    """Not the network that it should be, nothing at all, or nobody."""
    url, bodies = checkpoint
    bodies.append(zipped({"aux.weight": np.zeros((3, 64), dtype=np.float32)}))
    with pytest.raises(IntegrityError, match="not the checkpoint of a wav2vec2"):
        pinning.resolve(of_address(url, CONVERT), token=None, env={}, scratch=tmp_path)
    known = replace(of_address(url, CONVERT), sources=(UrlSource(url=url, sha256="0" * 64),))
    with pytest.raises(IntegrityError, match="has a file with sha256") as error:
        pinning.resolve(known, token=None, env={}, scratch=tmp_path)
    assert error.value.expected == f"{'0' * 64}, as models.yaml says"
    bodies.append(b"")
    with pytest.raises(SourceError, match="answered 200, 0 bytes"):
        pinning.resolve(of_address(url, CONVERT), token=None, env={}, scratch=tmp_path)
    with pytest.raises(SourceError, match="could not be reached"):
        pinning.resolve(of_address("http://127.0.0.1:9/a.pt", CONVERT), token=None, env={}, scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def whisper(number: float) -> dict[str, bytes]:
    """A repository with weights in float16."""
    some = weights(SMALL | {"encoder/layer_0/linear/weight": np.full((400, 6), number, np.float16)})
    return {"model.bin": some, "config.json": b'{"now": 1}' * 20}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_weights_in_int8_are_made_from_what_is_pinned(tmp_path: Path, hub: Hub) -> None:
    """Their pin has the result and what it is made of; whoever has the model fetches them without a network."""
    hub.files = whisper(1)
    root = make(tmp_path, None, int8=True)
    assert "m is not pinned" in lock(root, hub, "m-int8").err
    assert lock(root, hub, "m").code == 0
    done = lock(root, hub, "m-int8")
    assert done.code == 0, done.err
    pins = project.load(root, env={}).pins
    made = converted(hub.files["model.bin"])
    assert {f.path: f.sha256 for f in pins["m-int8"].files} == {
        "model.bin": digest(made),
        "config.json": digest(hub.files["config.json"]),
    }
    assert pins["m-int8"].source_files == tuple(f for f in pins["m"].files if f.path == "model.bin")
    assert pins["m-int8"].revision == NOW
    assert not list((root / ".bake/models").glob("ctranslate2/*")), "it was made for its digest"
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(root / "hf")}
    fetched = small_project.bake(root, "models", "fetch", "m-int8", env=offline)
    assert fetched.code == 0, fetched.err
    assert (root / ".bake/models/ctranslate2/m-int8/model.bin").read_bytes() == made


def test_a_pin_that_moves_takes_its_int8_along(tmp_path: Path, hub: Hub) -> None:
    hub.files, hub.commits = whisper(1), [NOW]
    root = make(tmp_path, None, int8=True)
    assert lock(root, hub, "m").code == lock(root, hub, "m-int8").code == 0
    hub.files, hub.commits = whisper(2), [NEXT, NOW]
    before = (root / "models.lock").read_text()
    assert lock(root, hub, "--update", "m", "--dry-run").code == 0
    assert (root / "models.lock").read_text() == before
    done = lock(root, hub, "--update", "m")
    assert done.code == 0, done.err
    pins = project.load(root, env={}).pins
    assert (pins["m"].revision, pins["m-int8"].revision) == (NEXT, NEXT)
    assert digest(converted(hub.files["model.bin"])) in {f.sha256 for f in pins["m-int8"].files}

    hub.files, hub.commits = {**whisper(3), "model.bin": b"no weights of CTranslate2" * 10}, [OLD, NEXT, NOW]
    before = (root / "models.lock").read_text()
    done = lock(root, hub, "--update", "m")
    assert done.code == 5, done.err
    assert "not a model of CTranslate2" in done.err
    assert (root / "models.lock").read_text() == before, "a model without its int8 would be refused"


def test_a_lock_whose_int8_is_of_other_weights_is_refused(tmp_path: Path, hub: Hub) -> None:
    hub.files = whisper(1)
    root = make(tmp_path, None, int8=True)
    assert lock(root, hub, "m").code == lock(root, hub, "m-int8").code == 0
    path = root / "models.lock"
    source = digest(hub.files["model.bin"])
    text = path.read_text()
    assert text.count(source) == 2
    path.write_text(text.replace(source, "a" * 64, 1))
    done = small_project.bake(root, "models", "list")
    assert done.code == 2
    assert "is not made from what" in done.err
    assert "models lock m-int8" in done.err


def test_two_at_once_lose_nothing(tmp_path: Path, hub: Hub) -> None:
    """Each writes its own pin into what the other wrote."""
    from concurrent.futures import ThreadPoolExecutor

    config = project.load(make(tmp_path, None), env={})
    made_of = {m.int8_of for m in config.models.values()}
    names = [m.id for m in config.models.values() if m.repo and m.int8_of is None and m.id not in {"m", *made_of}][:12]
    made = {n: Pin(revision=NEXT, files=(FilePin(path="f", size=1, sha256="0" * 64),)) for n in names}
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda n: pinning.write(tmp_path, tmp_path / ".bake", {n: made[n]}, config.models), names))
    assert {n for n, p in project.load(tmp_path, env={}).pins.items() if p.revision == NEXT} == set(names)
