"""The token, and what a hub's refusals mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builder.edges.jobs import preflight
from builder.edges.machine import doctor
from builder.edges.weights import access
from builder.edges.weights.access import Reason
from builder.errors import ConfigError, MissingError
from tests.golden.project import read


@pytest.mark.parametrize(
    ("status", "code", "message", "token", "expected"),
    [
        (401, "GatedRepo", "Access to model a/b is restricted. … Please log in.", False, Reason.NO_TOKEN),
        (401, "", "Invalid credentials in Authorization header", True, Reason.BAD_TOKEN),
        (401, "GatedRepo", "", True, Reason.BAD_TOKEN),
        (403, "GatedRepo", "… restricted and you are not in the authorized list. Visit …", True, Reason.NOT_ACCEPTED),
        (403, "GatedRepo", "Your request … is awaiting a review from the repo authors.", True, Reason.PENDING),
        (403, "GatedRepo", "… has been rejected by the repo's authors.", True, Reason.REJECTED),
        (403, "", "Please enable access … in your fine-grained token settings …", True, Reason.SCOPE),
        (403, "", "blocked by policy", True, Reason.FORBIDDEN),
        (403, "", "", False, Reason.NO_TOKEN),
    ],
)
def test_refusals_are_told_apart(status: int, code: str, message: str, token: bool, expected: Reason) -> None:
    """401, 403 and "not accepted" have different ways out."""
    assert access.reason(status, code, message, with_token=token) is expected


def secrets(home: Path, text: str, mode: int = 0o600) -> Path:
    path = home / "secrets"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_token_is_looked_for_in_order(tmp_path: Path) -> None:
    """HF_TOKEN, the secrets file, the hub client's own file; an empty variable is none."""
    own = tmp_path / "hf/token"
    own.parent.mkdir()
    own.write_text("hf_own\n")
    env = {"HF_HOME": str(own.parent), "HF_TOKEN": " "}
    assert access.find_token({"HF_TOKEN_PATH": str(tmp_path / "none")}, tmp_path) is None

    def found(**more: str) -> tuple[str, str]:
        token = access.find_token({**env, **more}, tmp_path)
        assert token is not None
        return token.value, token.source

    assert found() == ("hf_own", str(own))
    path = secrets(tmp_path, "# mine\nOTHER=1\nexport HF_TOKEN='hf_kept'\n")
    assert found() == ("hf_kept", str(path))
    assert found(HF_TOKEN=" hf_given\n") == ("hf_given", "HF_TOKEN")


def test_the_value_is_in_no_representation(tmp_path: Path) -> None:
    """A traceback or a debug print shows where it came from, not what it is."""
    assert "hf_secret" not in repr(access.find_token({"HF_TOKEN": "hf_secret"}, tmp_path))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_secrets_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    """With the command that puts it right; nothing of it is shown."""
    path = secrets(tmp_path, "HF_TOKEN=hf_secret\n", mode)
    with pytest.raises(ConfigError, match="others can read") as caught:
        access.find_token({"HF_TOKEN_PATH": "/none"}, tmp_path)
    assert caught.value.hint == f"chmod 600 {path}"
    assert "hf_secret" not in repr(vars(caught.value))


def test_a_secrets_file_is_a_file_of_ones_own(tmp_path: Path) -> None:
    """No link, folder or pipe; one that is named must be there."""
    import os

    secrets(tmp_path, "HF_TOKEN=hf_a\n").rename(tmp_path / "real")
    for name, make in (
        ("link", lambda p: p.symlink_to(tmp_path / "real")),
        ("folder", lambda p: p.mkdir()),
        ("pipe", os.mkfifo),
    ):
        make(tmp_path / name)
        with pytest.raises(ConfigError):
            access.find_token({"BAKE_SECRETS": str(tmp_path / name)}, tmp_path)
    with pytest.raises(ConfigError, match="doesn't exist"):
        access.find_token({"BAKE_SECRETS": str(tmp_path / "absent")}, tmp_path)


@pytest.mark.parametrize("text", ["hf_a b", "hf_\x00", "hf_ä", "a\nb"])
def test_what_can_be_no_token_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    """A pasted sentence would else come back in a header error."""
    with pytest.raises(ConfigError) as caught:
        access.find_token({"HF_TOKEN": text}, tmp_path)
    assert text not in repr(vars(caught.value))


@pytest.mark.parametrize("named", [False, True])
def test_preflight_and_doctor_look_where_the_token_is_looked_for(tmp_path: Path, named: bool) -> None:
    """The secrets file of the state folder, and the one that BAKE_SECRETS names: seen, and refused when others can read it."""
    config = replace(read({}), home=tmp_path / "home")
    place = tmp_path / "elsewhere" if named else config.home
    place.mkdir()
    path = secrets(place, "HF_TOKEN=hf_kept\n")
    env = {"HF_TOKEN_PATH": "/none"} | ({"BAKE_SECRETS": str(path)} if named else {})
    assert preflight._secrets(config, env) == "1, readable by you alone"
    assert (doctor._token(config, env).ok, doctor._token(config, env).note) == (True, f"of {path}")
    path.chmod(0o644)
    with pytest.raises(MissingError, match="others can read a secret"):
        preflight._secrets(config, env)
    assert not doctor._token(config, env).ok
