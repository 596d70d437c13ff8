"""The command line: what stands before a verb, and what --json prints when something fails."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from builder import cli, errors
from builder.cli import commands
from builder.cli.commands import LazyGroup
from builder.edges.machine.hardware import look
from builder.errors import BakeError, did_you_mean
from tests import small_project


def walk(group: LazyGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, with the words that are typed for it."""
    for name in group.commands:
        command = group.commands[name]
        if isinstance(command, LazyGroup):
            yield from walk(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(walk(typer.main.get_command(cli.app)))  # type: ignore[arg-type]
WORDS = [pytest.param(words, id=" ".join(words)) for words in COMMANDS]


def arguments(words: tuple[str, ...]) -> list[str]:
    """One word for each argument that a command requires."""
    return [
        "x" for parameter in COMMANDS[words].params if parameter.param_type_name == "argument" and parameter.required
    ]


def required_options(words: tuple[str, ...]) -> list[str]:
    required = [p for p in COMMANDS[words].params if p.param_type_name == "option" and p.required]
    return [word for p in required for word in (p.opts[0], "x")]


def options(words: tuple[str, ...]) -> set[str]:
    return {parameter.name for parameter in COMMANDS[words].params if parameter.param_type_name == "option"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that no test changes."""
    return small_project.make(tmp_path_factory.mktemp("project"), {}, fill=False)


@pytest.fixture
def here(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inside that project, with an empty state folder and nothing of this machine's settings; the state folder."""
    monkeypatch.setenv("BAKE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("BAKE_JOBS", str(tmp_path / "jobs"))
    monkeypatch.chdir(shared)
    return tmp_path


def failed(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    """The error of a command with --json: the only thing that it prints."""
    code = cli.main(list(argv))
    printed = capsys.readouterr()
    assert printed.err == ""
    document = json.loads(printed.out)
    assert list(document) == ["error"]
    assert list(document["error"])[:5] == ["code", "what", "where", "expected", "hint"]
    assert document["error"]["exit_code"] == code != 0
    return dict(document["error"])


def test_there_are_as_many_commands_as_the_documents_say() -> None:
    assert len(COMMANDS) >= 33
    assert ("models", "fetch") in COMMANDS
    assert ("bundle", "keys") in COMMANDS


def test_the_help_lists_every_command_as_it_describes_itself() -> None:
    """The root's list is written by hand, so that nothing is imported for it."""
    for name, (_, text) in commands.TOP.items():
        assert text == COMMANDS[(name,)].help.splitlines()[0], f"commands.TOP: copy the first line of {name}'s help"
    root = typer.main.get_command(cli.app)
    for name, (_, _, text) in commands.GROUPS.items():
        assert text == root.commands[name].help  # type: ignore[attr-defined]
    assert [w[0] for w in COMMANDS if len(w) == 1] == list(commands.TOP)


@pytest.mark.parametrize(
    "words", [pytest.param((), id="root"), *((name,) for name in commands.GROUPS), *WORDS], ids=lambda w: " ".join(w)
)
def test_help_has_a_short_name_at_every_level(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "-h"]) == 0
    short = capsys.readouterr().out
    assert cli.main([*words, "--help"]) == 0
    assert capsys.readouterr().out == short
    assert short.startswith("Usage: python3 build.py")
    assert "-h, --help" in short


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("/srv/bake/build.py", "python3 build.py"),
        ("/home/me/.local/bin/whisperbake", "whisperbake"),
        ("/venv/lib/python3.13/site-packages/builder/__main__.py", "python3 -m builder"),
        ("-c", "python3 build.py"),
    ],
)
def test_what_to_type_next_begins_with_what_was_typed(
    typed: str, name: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In help pages, errors and results alike."""
    monkeypatch.setattr("sys.argv", [typed, "ignored"])
    assert cli.main(["jobs", "report", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["hint"] == f"{name} run RECORDING"
    assert cli.main(["jobs", "report", "--nope", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["hint"] == f"{name} jobs report --help"
    assert cli.main(["jobs", "report", "-h"]) == 0
    assert f"Example: {name} jobs report 20261123 --open" in capsys.readouterr().out


def test_a_python_of_windows_is_told_of_wsl(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert cli.main(["--version"]) == 3
    assert "  next: build.cmd " in capsys.readouterr().err


@pytest.mark.parametrize("words", WORDS)
def test_a_mode_that_does_not_exist_is_refused_by_every_command(
    words: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the verb, and in the environment; also by commands that would not have used it."""
    rest = [*arguments(words), *required_options(words), "--json"]
    error = failed(capsys, "--mode", "docker-cpo", *words, *rest)
    assert error["code"] == "usage"
    assert error["where"] == "--mode"
    assert error["exit_code"] == 2
    assert error["expected"]
    if "mode" in options(words):
        assert error["hint"] == 'did you mean "docker-cpu"?'


@pytest.mark.parametrize("words", WORDS)
def test_a_variable_that_makes_no_sense_is_refused_by_every_command(
    words: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a command that would choose a mode of its own."""
    monkeypatch.setenv("BAKE_MODE", "natve")
    error = failed(capsys, *words, *arguments(words), *required_options(words), "--json")
    assert (error["code"], error["exit_code"], error["where"]) == ("usage", 2, "BAKE_MODE")
    assert error["expected"] == "native, docker-cpu, docker-gpu"
    assert error["hint"] == 'did you mean "native"?'


@pytest.mark.parametrize("gpu", [False, True])
def test_gpu_images_are_not_built_for_jobs_without_a_gpu(
    gpu: bool, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 GB were built, and the job ran on the processor. Images for other machines are built anywhere."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{here}/none.sock")
    found = dataclasses.asdict(look()) | {"gpus": []}
    if gpu:
        found["gpus"] = [{"name": "GPU", "memory": 24_000_000_000, "driver": "570", "cuda": "12.8"}]
    (here / "state/cache").mkdir(parents=True)
    (here / "state/cache/hardware.json").write_text(json.dumps({"at": time.time(), "hardware": found}))
    recording = here / "a.wav"
    recording.touch()
    mode = ("--mode", "docker-gpu", "--json")
    none, no_engine = "this machine has no NVIDIA GPU", "no container engine on this machine"

    def said(*words: str) -> tuple[str, str | None]:
        error = failed(capsys, *words)
        assert error["exit_code"] == 3
        return error["what"].partition(" (")[0], error["hint"]

    for verb in ("run", "prepare"):
        assert said(verb, str(recording), *mode)[0] == (no_engine if gpu else none)
        assert said(verb, str(recording), *mode, "--device", "cpu")[0] == no_engine
    if not gpu:
        assert said("run", str(recording), *mode)[1] == "--device cpu, or --mode docker-cpu, whose images are smaller"
        assert said(*mode) == (none, "python3 build.py build --mode docker-gpu, for another machine")
    assert said("build", *mode)[0] == no_engine


@pytest.mark.parametrize(
    ("variable", "word"), [("BAKE_VARIANT", "ful"), ("BAKE_PRESET", "startr"), ("BAKE_WORKFLOW", "subtitel")]
)
def test_every_variable_is_checked(
    variable: str, word: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, word)
    error = failed(capsys, "jobs", "list", "--json")
    assert (error["code"], error["exit_code"], error["where"]) == ("usage", 2, variable)
    assert word in error["what"]
    assert error["expected"]
    assert error["hint"].startswith("did you mean")


@pytest.mark.parametrize("line", ["mode: natve", "variant: ful", "preset: startr", "workflow: subtitel"])
def test_a_default_in_bake_yaml_is_checked_even_when_a_flag_overrides_it(
    line: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, word = line.split(": ")
    monkeypatch.chdir(small_project.make(here / "other", {}, fill=False))
    bake = here / "other/bake.yaml"
    lines = bake.read_text().splitlines()
    at = next(k for k, text in enumerate(lines) if text.startswith("defaults:"))
    kept = [text for text in lines if not text.lstrip().startswith(f"{name}:")]
    bake.write_text("\n".join([*kept[: at + 1], f"  {line}", *kept[at + 1 :]]) + "\n")
    right = {"mode": "native", "variant": "slim", "preset": "starter"}
    flag = [f"--{name}", right[name]] if name in right else []
    error = failed(capsys, "plan", *flag, "--json")
    assert error["where"].startswith("bake.yaml:")
    assert word in error["what"]
    assert error["hint"].startswith("did you mean")


@pytest.mark.parametrize("words", WORDS)
def test_an_option_before_the_verb_reaches_it_or_is_refused(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never dropped: the command is stopped where it would open its session, and what it got is read there."""
    rest = [*arguments(words), *required_options(words)]
    for option, value, later in (
        ("mode", "docker-gpu", "native"),
        ("variant", "full", "slim"),
        ("preset", "premium", "fast"),
    ):
        got = opened_with(monkeypatch, [f"--{option}", value, *words, *rest])
        if option not in options(words):
            assert got is None
            assert f"has no option --{option}" in capsys.readouterr().err
            continue
        assert got is not None
        assert got[option] == value
        got = opened_with(monkeypatch, [f"--{option}", value, *words, f"--{option}", later, *rest])
        assert got is not None
        assert got[option] == later


def opened_with(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> dict[str, object] | None:
    """What a command asked its session for; None when it was refused with exit 2."""
    seen: list[dict[str, object]] = []

    def stop(*, overrides: dict[str, object], **_: object) -> None:
        seen.append(overrides)
        raise errors.MissingError("stopped by the test")

    monkeypatch.setattr("builder.workflows.session.open_session", stop)
    code = cli.main(argv)
    assert code == (3 if seen else 2)
    return seen[0] if seen else None


def test_home_and_quiet_before_the_verb_are_the_sessions(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--home", str(here / "flag"), "--quiet", "hardware"]) == 0
    assert (here / "flag/cache/hardware.json").is_file()
    assert not (here / "state").exists()
    assert capsys.readouterr().err == ""


def test_json_before_the_verb_is_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--json", "hardware"]) == 0
    assert json.loads(capsys.readouterr().out)["recommended"]["preset"]


@pytest.mark.parametrize(
    "argv",
    [
        ["jobs", "list", "--nope", "--json"],
        ["--json", "run"],
        ["--json", "jobs"],
        ["nope", "--json"],
        ["run", "x", "--threads", "many", "--json"],
        ["run", "x", "--threads", "0", "--json"],
        ["--json", "--nope"],
        ["jobs", "--json"],
    ],
)
def test_a_line_that_cannot_be_read_is_json_too(
    argv: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = failed(capsys, *argv)
    assert (error["code"], error["exit_code"]) == ("usage", 2)
    assert error["hint"].startswith("python3 build.py")
    assert error["hint"].endswith("--help")


def test_json_after_two_dashes_is_a_file_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "verify", "--", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")


@pytest.mark.parametrize(
    ("raised", "code", "exit_code", "what"),
    [
        (KeyboardInterrupt(), "interrupted", 130, "interrupted"),
        (typer.Abort(), "interrupted", 130, "stopped at the question"),
        (RuntimeError("boom"), "bug", 1, "this is a bug in whisperbake: RuntimeError: boom"),
        (errors.IntegrityError("bytes", where="f"), "integrity", 5, "bytes"),
    ],
)
def test_what_stops_a_command_is_json_too(
    raised: BaseException,
    code: str,
    exit_code: int,
    what: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(**_: object) -> None:
        raise raised

    monkeypatch.setattr("builder.cli.machine.opened", stop)
    error = failed(capsys, "hardware", "--json")
    assert (error["code"], error["exit_code"], error["what"]) == (code, exit_code, what)
    if code == "bug":
        log = Path(error["hint"].removeprefix("report it with the file "))
        assert "RuntimeError: boom" in log.read_text()
        log.unlink()


def test_without_json_an_error_is_prose_on_standard_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["jobs", "list", "--nope"]) == 2
    assert capsys.readouterr() == ("", "error: No such option: --nope\n  next: python3 build.py jobs list --help\n")


def test_a_group_without_a_command_shows_what_there_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bundle"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Usage: python3 build.py bundle" in printed.err
    assert "error: python3 build.py bundle: which command?" in printed.err


def test_a_result_that_failed_carries_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    """One document on standard output: the result, with ``error`` in it."""
    from builder.cli.options import show
    from builder.views import View

    view: View[dict[str, int]] = View(command="x", shape=dict, data=dict, lines=lambda _: ["two lines"])
    failure = errors.IntegrityError("one is damaged", hint="repair it")
    with pytest.raises(errors.IntegrityError):
        show(True, view, {"files": 2}, failure=failure)
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == 2
    assert document["error"]["what"] == "one is damaged"
    assert failure.in_result
    with pytest.raises(errors.IntegrityError):
        show(False, view, {"files": 2}, failure=errors.IntegrityError("again"))
    assert capsys.readouterr().out == "two lines\n"


def test_a_list_that_failed_is_the_result_beside_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A list has no keys: it would be a second document."""
    from builder.cli.options import show
    from builder.views import View

    view: View[list[str]] = View(command="x", shape=list, data=list, lines=lambda _: [])
    failure = errors.SourceError("the hub is offline")
    with pytest.raises(errors.SourceError):
        show(True, view, ["base"], failure=failure)
    document = json.loads(capsys.readouterr().out)
    assert document["result"] == ["base"]
    assert document["error"]["code"] == "source"
    assert failure.in_result


def test_every_kind_of_error_has_a_word_of_its_own_for_scripts() -> None:
    """Scripts compare these words: none changes."""
    kinds = {
        cls.kind: cls.exit_code for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, BakeError)
    }
    assert kinds == {
        "failed": 1,
        "bug": 1,
        "usage": 2,
        "config": 2,
        "input": 2,
        "missing": 3,
        "source": 4,
        "integrity": 5,
        "build": 6,
        "stage": 7,
        "partial": 8,
        "interrupted": 130,
        "terminated": 143,
    }
    assert did_you_mean("natve", ["native", "docker-cpu"]) == 'did you mean "native"?'


def test_json_holds_nothing_that_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """C1 controls, directions and tags are escapes inside its strings: the same text for who reads JSON."""
    from builder.cli.options import print_json

    name = "é\x9b2J \u202eexe \U000e0041 \x1b[0m"
    print_json({"name": name})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"name": name}
    assert "é" in printed
    assert not {"\x9b", "\u202e", "\U000e0041", "\x1b"} & set(printed)


@pytest.mark.parametrize(
    ("words", "where", "hint"),
    [
        (["--only", "asrr"], "--only", 'did you mean "asr"?'),
        (["--from", "vadd"], "--from", 'did you mean "vad"?'),
        (["--until", "nosuch"], "--until", None),
        (["--only", "asr", "--until", "asr"], None, "leave out --from and --until"),
    ],
)
def test_a_mistyped_stage_makes_no_job(
    words: list[str], where: str | None, hint: str | None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused before anything is set up: an empty job would be the newest, which `report` takes."""
    (here / "talk.wav").write_bytes(b"RIFF")
    error = failed(capsys, "run", str(here / "talk.wav"), *words, "--json")
    assert (error["exit_code"], error["where"], error["hint"]) == (2, where, hint)
    assert not (here / "jobs").exists()
    assert not (here / "state/native").exists()
