"""Which language pairs a backend has: read off what is installed, and off a model's own files. No package is needed.

``python pairs.py`` prints those of Apertium that are installed, a pair a line; the builder asks that way.
"""

from __future__ import annotations

from pathlib import Path

INSTALL = "apt-get install apertium apertium-eng-spa (apt-cache search apertium- lists the other pairs)"
"""What to type where there is none."""

NAMES = {
    "af": "afr", "be": "bel", "bg": "bul", "br": "bre", "bs": "hbs_BS", "ca": "cat", "da": "dan", "en": "eng", "es": "spa",
    "eu": "eus", "fr": "fra", "gl": "glg", "hi": "hin", "hr": "hbs_HR", "id": "ind", "is": "isl", "it": "ita", "mk": "mkd",
    "ms": "zlm", "nl": "nld", "nn": "nno", "no": "nob", "oc": "oci", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus",
    "sl": "slv", "sr": "hbs_SR", "sv": "swe", "uk": "ukr", "ur": "urd",
}  # fmt: skip
"""Whisper's codes -> Apertium's (ISO 639-3, and a variant where the language is written in several ways). Older pairs
have ISO 639-1."""


def apertium(data: Path) -> dict[tuple[str, str], str]:
    """The pairs in a folder of Apertium's languages: (source, target) -> the name of its file in ``modes``."""
    there = {path.stem: path.name for path in (data / "modes").glob("*.mode")}
    return {
        (source, target): there[mode]
        for source in NAMES
        for target in NAMES
        if source != target and (mode := _mode(source, target, there)) is not None
    }


def _mode(source: str, target: str, there: dict[str, str]) -> str | None:
    """The mode of a pair: with the target's own variant, else without, else by the older codes."""
    whole = NAMES[target]
    sources = (NAMES[source].partition("_")[0], source)
    targets = (whole, whole.partition("_")[0], target)
    return next((mode for a in sources for b in targets if (mode := f"{a}-{b}") in there), None)


if __name__ == "__main__":
    for pair in sorted(apertium(Path("/usr/share/apertium"))):
        print(*pair)
