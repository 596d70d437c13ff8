"""Fonts of this machine, copied into a job whose subtitles are drawn: images have none, and a job needs nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from builder.edges.system import shell
from builder.errors import MissingError

LANGUAGES = tuple(
    "en ru el ar he hi bn gu pa ta te kn ml si th lo km my ka hy am ja ko zh-cn zh-tw".split()  # noqa: SIM905
)
"""A language for each script that Whisper writes: fontconfig knows this machine's best font for each."""

FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "~/.local/share/fonts",
)
"""Where fonts are on a machine without fontconfig."""

NAMES = ("DejaVuSans", "NotoSans-Regular", "LiberationSans-Regular", "Arial Unicode", "Arial", "FreeSans")

SUFFIXES = (".ttf", ".otf", ".ttc")

ROOM = 120_000_000
"""Bytes of fonts that a job gets at most."""


def put(folder: Path) -> None:
    """Copy fonts into ``folder`` as ``font-01.ttf`` and so on, the most general one first.

    Raises:
        MissingError: this machine has none.
    """
    left = ROOM
    number = 0
    for path in dict.fromkeys(_found()):
        size = path.stat().st_size
        if size <= left:
            number, left = number + 1, left - size
            shutil.copyfile(path, folder / f"font-{number:02}{path.suffix.lower()}")
    if number == 0:
        raise MissingError(
            "this machine has no font to draw subtitles with", hint="apt-get install fonts-dejavu-core fonts-noto-cjk"
        )


def _found() -> Iterator[Path]:
    """Font files; some more than once."""
    for language in LANGUAGES:
        try:
            done = shell.run(["fc-match", "--format", "%{file}", f"sans-serif:lang={language}"], timeout=20)
        except MissingError:
            break
        path = Path(done.out.strip())
        if done.code == 0 and path.suffix.lower() in SUFFIXES and path.is_file():
            yield path.resolve()
    for folder in FOLDERS:
        files = sorted(p for p in Path(folder).expanduser().rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        for name in NAMES:
            yield from (p.resolve() for p in files if p.stem == name)
