"""What the documents say to type: each block of commands runs or says why not, and each command line is one of ours.

tests/e2e/test_documents.py and tests/engine/test_documents.py type them.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import typer

from builder import cli
from builder.core.config import parse
from builder.core.papers import vex
from builder.receiver.options import arguments as loader_arguments
from tests.documents import COMMAND, OTHER_SHELLS, PAGES, ROOT, SHELLS, Block, blocks, commands, spans, unfenced
from tests.typing_pages import alike, run_here, run_with_an_engine
from tests.unit.test_cli import COMMANDS

MARKS = {"not run", "run", "shows", "read as"}
OURS = ("build.py", "build.cmd", "whisperbake")
GROUPS = {words[0] for words in COMMANDS if len(words) > 1}
ROOT_OPTIONS = {word for parameter in typer.main.get_command(cli.app).params for word in parameter.opts} | {"--help"}
OPTIONS = {words: {o for p in c.params for o in (*p.opts, *p.secondary_opts)} for words, c in COMMANDS.items()}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
STAGES = set(re.findall(r'add_argument\("(--\w+)"', (ROOT / "stages/contract.py").read_text()))
LOADER = set(re.findall(r'"(--[a-z-]+)"', (ROOT / "builder/receiver/options.py").read_text()))
FOREIGN = {"--build-arg", "--link", "--push"}
"""Options of docker that the pages name without it."""

ANY = set.union(ROOT_OPTIONS, STAGES, LOADER, FOREIGN, *OPTIONS.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_commands_run_or_say_why_not(page: Path) -> None:
    """A block without a reason runs; a comment that nobody reads, or a block that no test finds, is a mistake."""
    wrong = [f"{line}: a command: fence it with ```sh" for line in unfenced(page)]
    for block in blocks(page):
        wrong += [f"{block.place}: {fault}" for fault in faults(block)]
    assert wrong == []


def faults(block: Block) -> Iterator[str]:
    """What keeps a block from being tested without a word."""
    if unknown := {name for name, _ in block.marks} - MARKS:
        yield f"a comment that no test reads: {', '.join(sorted(unknown))}"
    reason = block.mark("not run")
    if reason is not None and len(reason.split()) < 3:
        yield "a reason has more words"
    if block.language in (*SHELLS, *OTHER_SHELLS):
        if not (run_here(block) or run_with_an_engine(block) or reason):
            yield "neither run nor marked with a reason"
    elif block.language == "yaml":
        if not (block.mark("read as") or reason):
            yield "not read as a file of a project, and without a reason"
    elif not block.mark("shows") and any(map(COMMAND.match, block.text.splitlines())):
        yield "a command in a block of text: fence it with ```sh"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_command_lines_are_those_of_the_programs(page: Path) -> None:
    """Blocks, run or not, are parsed by the real command line; in running text, commands and options exist."""
    wrong = []
    for block in blocks(page):
        if block.language in (*SHELLS, *OTHER_SHELLS):
            wrong += [f"{block.place}: {' '.join(w)}: {said}" for w in commands(block.script) if (said := refused(w))]
    wrong += [f"{page.name}: `{span}`: {said}" for span in spans(page) if (said := doubtful(span))]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configuration_is_what_a_project_may_have(page: Path) -> None:
    for block in blocks(page):
        if block.mark("read as") == "bake.yaml":
            stages = {p.relative_to(ROOT).as_posix(): p.read_text() for p in ROOT.glob("stages/*/stage.yaml")}
            parse.read({"bake.yaml": block.text, **stages})
        if block.mark("read as") == "vex.yaml":
            assert vex.parse(block.text).statements


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("python3 build.py run talk.mp4 --speekers 2", "No such option: --speekers"),
        ("python3 build.py jobs report --embed 500", "--embed"),
        ("./build.py modles list", "No such command 'modles'"),
        ("python3 build.py --json models list && make lintt", "no target lintt"),
        ("HF_ENDPOINT=http://x build.py models verify --deep | grep base > out", ""),
        ("python3 first/load.py --accpt", "unrecognized arguments: --accpt"),
    ],
)
def test_a_mistyped_line_is_noticed(line: str, said: str) -> None:
    found = [fault for words in commands(line) if (fault := refused(words))]
    assert (said in found[0]) if said else (found == [])


@pytest.mark.parametrize(
    ("span", "wrong"),
    [
        ("build.py jobs list|shw JOB", True),
        ("models fetch --skip-gate", True),
        ("--embd MB", True),
        ("build.py models verify [--deep]", False),
        ("load.py --with FOLDER", False),
        ("run off", False),
    ],
)
def test_a_mistyped_name_in_a_sentence_is_noticed(span: str, wrong: bool) -> None:
    assert (doubtful(span) is not None) == wrong


def test_what_a_page_shows_is_compared_but_for_its_figures() -> None:
    """Another machine has other times; another text is another result."""
    shown = alike("1\n00:00:05,902 --> 00:00:06,902\nSpeaker 2: Thank you.\nexpected: …\n")
    assert shown.search("1\n00:00:05,880 --> 00:00:07,002\nSpeaker 2: Thank you.\nexpected: a, b\n")
    assert not shown.search("1\n00:00:05,880 --> 00:00:07,002\nSpeaker 1: Thank you.\nexpected: a, b\n")


def test_a_console_block_is_lines_to_type_and_what_they_print(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "A text.\n\n<!-- not run: a reason in words -->\n```console\n$ make lint\nfine\n$ make types\n```\n\n    make json\n"
    )
    [block] = blocks(page)
    assert (block.line, block.language, block.mark("not run")) == (4, "console", "a reason in words")
    assert (block.script, block.printed) == ("make lint\nmake types\n", "fine\n")
    assert [line.rpartition(": ")[2] for line in unfenced(page)] == ["make json"]


def refused(words: list[str]) -> str | None:
    """Why a command can't be typed; None also where nothing is known of its program."""
    program = PurePosixPath(words[0]).name
    if re.fullmatch(r"python(3[.\d]*)?", program) and len(words) > 1:
        return refused(words[1:])
    if program in OURS:
        return parsed(words[1:])
    if program == "load.py":
        return complaint(lambda: loader_arguments(words[1:]))
    if program == "make":
        return next((f"no target {word}" for word in words[1:] if "=" not in word and word not in TARGETS), None)
    return None


def parsed(words: list[str]) -> str | None:
    """What our command line says of its words, without running anything."""
    if words[:1] == ["test"]:  # the launcher's own
        return None
    command: Any = typer.main.get_command(cli.app)
    name, context = "build.py", None
    try:
        while True:
            context = command.make_context(name, list(words), parent=context)
            words = [*context._protected_args, *context.args]
            if not words:
                return None
            name, command, words = command.resolve_command(context, words)
    except typer.Exit:  # --help, --version
        return None
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's own
            raise
        return str(error.format_message())


def complaint(parse_words: Callable[[], object]) -> str | None:
    """What argparse says before it ends the process."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            parse_words()
        except SystemExit as end:
            return said.getvalue().splitlines()[-1] if end.code else None
    return None


def doubtful(span: str) -> str | None:
    """Why code in a sentence names a command or an option that isn't there: ``jobs list|show JOB``, ``[--deep]``."""
    words = re.sub(r"[\[\]…,=]", " ", span).split()
    if words[:1] == ["python3"]:
        words.pop(0)
    if not words:
        return None
    ours = PurePosixPath(words[0]).name in OURS
    words = words[1:] if ours else words
    if ours and words[:1] and words[0].startswith("-"):  # options before the command: a whole line
        return parsed(words)
    options = [word for word in words if re.fullmatch(r"--[a-z][a-z-]+", word)]
    named = list(commands_of(words))
    unknown = [words for words in named if words not in COMMANDS and words != ("test",)]
    if ours and unknown:
        return f"no command {', '.join(map(' '.join, unknown))}"
    if named and not unknown:
        known = set.union(ROOT_OPTIONS, *(OPTIONS.get(words, set()) for words in named))
    elif ours or words[0].startswith("--") or words[0].endswith("load.py"):
        known = ANY
    else:  # another program
        return None
    return next((f"no option {option}" for option in options if option not in known), None)


def commands_of(words: list[str]) -> Iterator[tuple[str, ...]]:
    """The commands that words begin with: ``jobs list|show`` are two."""
    head = [word for word in words[:2] if not word.startswith("-")]
    for first in head[0].split("|") if head else []:
        if first not in GROUPS:
            yield (first,)
        else:
            yield from ((first, second) for second in (head[1].split("|") if len(head) > 1 else []))
