"""The blocks of README.md, CONTRIBUTING.md and docs/*.md: what they say to type, and what is said about testing it.

An HTML comment, which no reader sees, may stand before a block:

- ``<!-- not run: REASON -->``: its commands don't run in CI. They are parsed all the same.
- ``<!-- run: WHERE -->``: they run ``with an engine``, or for minutes ``with an engine, as make test-heavy``. Without a
  comment they run in a copy of the project.
- ``<!-- shows: PATTERN -->``: lines of a file that the page's commands write, by a pattern of its path.
- ``<!-- read as: FILE -->``: YAML that is checked as that file of a project is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]

SHELLS = ("sh", "console")
"""Fences of commands: lines to type; or lines after ``$ ``, and what they print."""

OTHER_SHELLS = ("bat", "powershell")
"""Fences of commands for machines that no test here has: always marked as not run."""

PROGRAMS = r"(?:python3? |\./|build\.py\b|whisperbake |make |docker |git |pip |cd )"
COMMAND = re.compile(rf"\s*(?:\$ )?(?:[A-Z_]+=\S* )*(?:sudo )?{PROGRAMS}")
"""How a line begins that is meant to be typed."""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    """Of its fence, from 1 on."""
    language: str
    text: str
    marks: tuple[tuple[str, str], ...]
    """What the comments before it say: ("not run", "needs a registry")."""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def mark(self, name: str) -> str | None:
        return dict(self.marks).get(name)

    @property
    def script(self) -> str:
        """The lines to type."""
        if self.language == "console":
            return "".join(f"{line[2:]}\n" for line in self.text.splitlines() if line.startswith("$ "))
        return self.text

    @property
    def printed(self) -> str:
        """What a console block says that its commands print."""
        return "".join(f"{line}\n" for line in self.text.splitlines() if not line.startswith("$ "))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    marks: list[tuple[str, str]] = []
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), start=1))
    for number, line in lines:
        if found := re.fullmatch(r"\s*<!-- ([a-z ]+): (.+) -->", line):
            marks.append((found[1], found[2]))
        elif found := re.fullmatch(r"( *)```(\w*)", line):
            body = []
            for _, inside in lines:
                if inside.strip() == "```":
                    break
                body.append(inside.removeprefix(found[1]))
            yield Block(page, number, found[2], "\n".join(body) + "\n", tuple(marks))
            marks = []
        elif line.strip():
            marks = []


def unfenced(page: Path) -> Iterator[str]:
    """Commands in indented blocks, which no test would find: ``docs/jobs.md:12: make lint``."""
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip().startswith("```"):
            fenced = not fenced
        elif not fenced and line.startswith("    ") and COMMAND.match(line):
            yield f"{page.name}:{number}: {line.strip()}"


def commands(script: str) -> Iterator[list[str]]:
    """The simple commands of a shell script, as words, without variables before them and redirections after them."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(re.sub(r"\d*>&\d", "", line), posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("();<>|&"):
                yield from _simple(words)
                words = ["#"] if set(word) & set("<>") else []  # what follows a redirection is a file
            else:
                words.append(word)
        yield from _simple(words)


def _simple(words: Sequence[str]) -> Iterator[list[str]]:
    if words[:1] == ["#"]:
        return
    rest = list(words)
    while rest and (re.fullmatch(r"[A-Za-z_]\w*=.*", rest[0]) or rest[0] in ("sudo", "then", "do", "export")):
        rest.pop(0)
    if rest:
        yield rest


def spans(page: Path) -> Iterator[str]:
    """Code in running text and tables."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for found in re.finditer(r"`([^`]+)`", text):
        yield re.sub(r"\s+", " ", found[1].replace("\\|", "|"))
