"""The token of the hub is a canary: whatever happens, it is in no output, file or report, and no other host hears it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder import cli
from tests.hub.client import contents
from tests.hub.server import Fault, Hub
from tests.process.test_fetch_killed import command, project

TOKEN = "hf_canary7Qx31LmNpRsTuVwXyZ"
FILES = contents(3, model_bin=300_000, config_json=50)
GATED = "hub: org/name, gated: true, page: https://pages.invalid"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(repos={"org/name": dict(FILES)}) as running:
        yield running


def searched(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Everything that a command left: state, temporary files, crash reports."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(folder)), path.read_bytes()


FAULTS = {
    "fetched": [],
    "busy": [Fault("busy", host="hub", retry_after="0")],
    "another file": [Fault("bytes", times=-1)],
    "expired link, reset": [Fault("expired"), Fault("reset", after=1000)],
    "no content host": [Fault("gone", host="hub", times=-1)],
}


@pytest.mark.parametrize("case", [*FAULTS, "refused", "not accepted", "no such token", "broken token"])
def test_nobody_but_the_hub_ever_sees_the_token(tmp_path: Path, hub: Hub, case: str) -> None:
    """Each ending of a fetch, with the client's own debugging on."""
    hub.faults["model.bin"] = FAULTS.get(case, [])
    hub.refuse = {"refused": (401, ""), "not accepted": (403, "GatedRepo"), "no such token": (401, "GatedRepo")}.get(
        case
    )
    (tmp_path / "tmp").mkdir()
    token = TOKEN + "\u00e9" if case == "broken token" else TOKEN
    env = {
        "HF_TOKEN": token,
        "HF_DEBUG": "1",
        "TMPDIR": str(tmp_path / "tmp"),
        "HOME": str(tmp_path),
        "HF_HUB_DOWNLOAD_TIMEOUT": "2",
    }
    process = command(project(tmp_path, FILES, GATED), hub, **env)
    out, err = process.communicate(timeout=120)
    assert (process.returncode == 0) == (case in ("fetched", "busy", "expired link, reset")), err
    assert "Traceback" not in err
    places = [("output", out.encode()), ("progress", err.encode()), *searched(tmp_path)]
    for name, data in places:
        for needle in (TOKEN.encode(), base64.b64encode(TOKEN.encode())[:-4]):
            assert needle not in data, name
    told = {(r.host, r.token) for r in hub.requests if r.token}
    assert told == (set() if case == "broken token" else {("hub", f"Bearer {TOKEN}")})


def test_a_crash_report_has_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even of a bug whose own message quotes it: from the environment, or by its look."""
    kept, mirror = "hf_kept1234567890abcdef", "mirrors-own-token"
    monkeypatch.setenv("HF_TOKEN", mirror)
    monkeypatch.setenv("BAKE_HOME", str(tmp_path / "state"))

    def bug(*_: object, **__: object) -> None:
        raise RuntimeError(f"Illegal header value b'Bearer {mirror}', {kept}, https://me:pw12345@mirror/x")

    monkeypatch.setattr("builder.workflows.weights.fetch", bug)
    assert cli.main(["models", "fetch", "base"]) == 1
    said = capsys.readouterr().err
    (report,) = tmp_path.glob("state/logs/crash-*")
    text = report.read_text()
    assert "Illegal header value" in text
    assert "Illegal header value" in said
    for secret in (mirror, kept, "pw12345"):
        assert secret not in text + said
