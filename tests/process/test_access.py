"""Gated models: the command says all that is to be done before it downloads a byte, and shows no token doing it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from builder.edges.system import shell
from tests import loopback, small_project
from tests.small_project import Small

TOKEN = "hf_CanaryOfGates0123456789"
NOT_IN_LIST = (403, "GatedRepo", "Access to model is restricted and you are not in the authorized list.")
AWAITING = (403, "GatedRepo", "Your request to access model is awaiting a review from the repo authors.")
LOG_IN = (401, "GatedRepo", "Access to model is restricted. Please log in.")
BAD = (401, "", "Invalid credentials in Authorization header")
MODELS = {
    "open-one": Small(entry="hub: org/open", files={"w": b"open" * 1000}),
    "gated-one": Small(
        entry="hub: org/one, gated: true, page: https://pages.invalid/one, alternative: open-one",
        files={"w": b"one" * 1000},
    ),
    "gated-two": Small(entry="hub: org/two, gated: true, page: https://pages.invalid/two", files={"w": b"two"}),
    "gated-three": Small(entry="hub: org/three, gated: true, page: https://pages.invalid/three", files={"w": b"3"}),
}


class Hub:
    """A hub on this machine: what it refuses, by repository, and what it was asked."""

    def __init__(self) -> None:
        self.refuses: dict[str, tuple[int, str, str]] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.address = ""


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()
    data = {small.entry.split(",")[0].split("/")[1]: small.files["w"] for small in MODELS.values()}

    class Handler(loopback.Handler):
        def do_HEAD(self) -> None:
            state.asked.append((self.command, self.path, self.headers.get("Authorization")))
            repo = self.path.split("/")[2] if self.path.count("/") > 2 else ""
            if repo in state.refuses and self.path.startswith("/org/"):
                status, code, message = state.refuses[repo]
                return self.reply(status, X_Error_Message=message, **({"X_Error_Code": code} if code else {}))
            body = data.get(repo, b"")
            start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            return self.reply(
                206 if self.headers.get("Range") else 200,
                body[start:],
                ETag=f'"{hashlib.sha256(body).hexdigest()}"',
                Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}",
            )

        do_GET = do_HEAD

    server = loopback.server_of(Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    with loopback.answering(server):
        yield state


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_project.make(tmp_path / "project", MODELS, fill=False)


def bake(root: Path, hub: Hub, *words: str, env: Mapping[str, str] | None = None) -> shell.Done:
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(root / "hf"), "TMPDIR": str(root), "NO_PROXY": "127.0.0.1"}
    return small_project.bake(root, "models", *words, env={**own, **(env or {})})


def test_everything_to_accept_is_named_before_the_first_byte(root: Path, hub: Hub) -> None:
    """Three gates with three reasons in one error: pages, token, the ungated alternative; and no file was asked for."""
    hub.refuses = {"one": NOT_IN_LIST, "two": AWAITING, "three": NOT_IN_LIST}
    done = bake(root, hub, "fetch", *MODELS, env={"HF_TOKEN": TOKEN})
    assert done.code == 4
    for word in ("one", "two", "three"):
        assert f"gated-{word} (MIT)" in done.err
        assert f"https://pages.invalid/{word}" in done.err
    assert done.err.count("not accepted by the token's account") == 2
    assert "have not let the account in yet" in done.err
    assert "nothing was downloaded" in done.err
    assert "--skip-gated" in done.err
    assert "open-one" in done.err
    assert {method for method, path, _ in hub.asked if path.startswith("/org/")} == {"HEAD"}
    assert not list((root / ".bake").rglob("w"))
    assert TOKEN not in done.out + done.err


def test_without_a_token_the_token_is_named_with_the_licences(root: Path, hub: Hub) -> None:
    """How to make one, where to put it; the licences in the same breath."""
    hub.refuses = {"one": LOG_IN, "two": LOG_IN}
    done = bake(root, hub, "fetch", "gated-one", "gated-two")
    assert done.code == 4
    assert done.err.count("it wants a token") == 2
    for word in (
        "settings/tokens",
        "HF_TOKEN",
        "accept each licence",
        "https://pages.invalid/two",
        "no token was found",
    ):
        assert word in done.err


def test_a_bad_token_is_not_a_licence(root: Path, hub: Hub) -> None:
    """401 with a token: the token is what is wrong, wherever it came from."""
    hub.refuses = {"one": BAD}
    (root / ".bake").mkdir(exist_ok=True)
    secrets = root / ".bake/secrets"
    secrets.write_text(f"HF_TOKEN={TOKEN}\n")
    secrets.chmod(0o600)
    done = bake(root, hub, "fetch", "gated-one")
    assert done.code == 4
    assert "refuses the token" in done.err
    assert "accept each licence" not in done.err
    assert str(secrets) in done.err
    assert {token for _, path, token in hub.asked if path.startswith("/org/")} == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.err


def test_a_secrets_file_elsewhere_is_named_by_a_variable(root: Path, hub: Hub) -> None:
    """BAKE_SECRETS; closed to others it is used, open to others it is refused before the hub is asked."""
    secrets = root / "elsewhere"
    secrets.write_text(f"HF_TOKEN={TOKEN}\n")
    secrets.chmod(0o644)
    done = bake(root, hub, "fetch", "gated-two", env={"BAKE_SECRETS": str(secrets)})
    assert done.code == 2
    assert f"chmod 600 {secrets}" in done.err
    assert TOKEN not in done.err
    assert [a for a in hub.asked if a[1].startswith("/org/")] == []
    secrets.chmod(0o600)
    assert bake(root, hub, "fetch", "gated-two", env={"BAKE_SECRETS": str(secrets)}).code == 0


def test_skip_gated_brings_the_rest(root: Path, hub: Hub) -> None:
    """Exit code 0, and what was left out is said."""
    hub.refuses = {"one": NOT_IN_LIST}
    done = bake(root, hub, "fetch", *MODELS, "--skip-gated", env={"HF_TOKEN": TOKEN})
    assert done.code == 0, done.err
    assert "gated-one: skipped, gated" in done.out
    assert sorted(p.parents[2].name for p in (root / ".bake/models").rglob("snapshots/*/w")) == [
        "models--org--open",
        "models--org--three",
        "models--org--two",
    ]


def test_a_gate_that_is_open_is_no_obstacle_nor_a_stick_that_has_it(root: Path, hub: Hub, tmp_path: Path) -> None:
    """Accepted: fetched with the token. Refused, and in a folder: taken from there."""
    assert bake(root, hub, "fetch", "gated-two", env={"HF_TOKEN": TOKEN}).code == 0
    assert f"Bearer {TOKEN}" in {token for method, _, token in hub.asked if method == "GET"}
    hub.refuses = {"one": NOT_IN_LIST}
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "any-name").write_bytes(MODELS["gated-one"].files["w"])
    done = bake(root, hub, "fetch", "gated-one", "--from", str(stick))
    assert done.code == 0, done.err


def test_a_crash_report_holds_no_token(root: Path, hub: Hub) -> None:
    """A bug of ours or of a library, with the token in its message: the report is written, the token is not in it."""
    code = (
        "import sys; from builder.edges.weights import fetch\n"
        "def broken(*a, env, **k): raise RuntimeError('header Bearer ' + env['HF_TOKEN'])\n"
        "fetch.fetch_models = broken\n"
        "from builder.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    env = {
        **os.environ,
        "PYTHONPATH": str(small_project.ROOT),
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "127.0.0.1",
    }
    done = shell.run([sys.executable, "-c", code, "models", "fetch", "open-one"], cwd=root, env=env, timeout=60)
    assert done.code == 1
    (report,) = (root / ".bake/logs").glob("crash-*.log")
    assert report.stat().st_mode & 0o077 == 0
    assert "RuntimeError: header Bearer ***" in report.read_text()
    assert TOKEN not in report.read_text() + done.out + done.err


def test_no_token_in_anything_that_is_kept(root: Path, hub: Hub) -> None:
    """The canary: after refusals, fetches and --json, no file of the project, the store or a crash report has it."""
    hub.refuses = {"one": NOT_IN_LIST}
    said = ""
    for words in (["fetch", "gated-one", "--json"], ["fetch", "gated-two"], ["list", "--json"], ["verify"]):
        done = bake(root, hub, *words, env={"HF_TOKEN": TOKEN})
        said += done.out + done.err
    assert TOKEN not in said
    kept = [p for p in root.rglob("*") if p.is_file()]
    assert len(kept) > 10
    assert [p for p in kept if TOKEN.encode() in p.read_bytes()] == []
