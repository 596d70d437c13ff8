"""make bench-translate: terms that a translation keeps, tokens beside Transformers', IndicTrans2's words, and asr's English.

    PYTHONPATH=.:bench .venv/bin/python -m translate [ROW …] [--count N]

``glossary`` needs espeak-ng and Whisper base, ``whisper`` this and recordings of bench-speech. The others need no weights:
``tokens`` and ``indic`` make small random ones, on which every wrong token shows. They say nothing of the quality.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
from pathlib import Path

from harness import ROOT, WORK, peer

from translate import english, scene, script

TRANSFORMERS = (
    "torch==2.8.0",
    "transformers==4.57.6",
    "protobuf==7.36.2",
    "sentencepiece==0.2.3",
    "ctranslate2==4.8.5",
    "numpy<2.5",
    "pyyaml==6.0.3",
)

INDIC = (
    "indic-nlp-library==0.92",
    "sacremoses==0.2.0",
    "sentencepiece==0.2.3",
    "ctranslate2==4.8.5",
    "numpy<2.5",
    "pyyaml==6.0.3",
)

MOST = 2
"""Terms of a sentence."""


def sentences(count: int) -> list[str]:
    """English sentences: this project's own documents and docstrings, in a fixed order."""
    texts = [path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))]
    texts += [
        text
        for path in sorted((ROOT / "builder").rglob("*.py"))
        for text in re.findall(r'"""(.*?)"""', path.read_text(), re.DOTALL)
    ]
    lines = [line for text in texts for line in text.splitlines() if not line.lstrip().startswith(("|", "#", "<", "-"))]
    whole = re.split(r"(?<=[.!?])\s+", " ".join(" ".join(lines).replace("`", "").split()))
    fitting = [s for s in whole if 4 <= len(s.split()) <= 30 and re.match(r"[A-Z][a-z]* [a-z]", s)]
    return list(dict.fromkeys(fitting))[:count]


def enforced(count: int) -> list[str]:
    """Terms that are left in translations by Apertium, English to Spanish; bar: 100 % of 500 sentences."""
    sys.path[:0] = [str(ROOT / "stages"), str(ROOT / "stages/translate")]
    import apertium
    import terms

    chance = random.Random(16)
    given, held = [], []
    for sentence in sentences(count):
        words = sorted(set(re.findall(r"\b[a-z]{4,}\b", sentence)))
        wanted = {word: f"«{word.upper()}»" for word in chance.sample(words, min(MOST, len(words)))}
        text, mine = terms.Terms(wanted).mask(sentence)
        given.append(text)
        held.append(mine)
    made = apertium.load({}, Path()).translate(given, source="en", target="es")
    lost, twice = 0, 0
    for text, mine in zip(made, held, strict=True):
        told, missing = terms.unmask(text, mine)
        lost += len(missing)
        twice += sum(told.count(term) > mine.count(term) for term in set(mine))
    total = sum(map(len, held))
    return [f"terms, {len(given)} sentences: {total - lost} of {total} kept, {twice} doubled (bar: all)"]


def tokens(count: int) -> list[str]:
    """Tokens beside Transformers', by small random NLLB, M2M-100 and Marian; bar: the same, and 3 x as fast."""
    python = peer("transformers", *TRANSFORMERS) / "python"
    folder = WORK / "random-translation"
    command = [str(python), str(Path(__file__).with_name("beside_transformers.py")), str(folder), str(count)]
    corpus = json.dumps(sentences(max(count, 1000)))
    done = subprocess.run(command, input=corpus, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found = []
    for line in filter(None, done.stdout.splitlines()):
        row = json.loads(line)
        same = f"{row['count'] - row['sources']} of {row['count']} sources, {row['count'] - row['results']} results the same"
        found.append(f"{row['family']}: {same}; {row['theirs'] / row['ours']:.1f} x as fast (bar: all; 3 x)")
    return found


def indic(count: int) -> list[str]:
    """Words for IndicTrans2 beside those of indic_nlp_library and sacremoses, there and back; bar: all the same."""
    python = peer("indic", *INDIC) / "python"
    command = [str(python), str(Path(__file__).with_name("beside_indic.py")), str(WORK / "random-indic"), str(count)]
    done = subprocess.run(command, input=json.dumps(sentences(4 * count)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found = [json.loads(line) for line in done.stdout.splitlines()]
    rows = [
        f"indic, {row['language']}: {row['there']} of {row['count']} texts there, {row['back']} of {row['told']} back (bar: all)"
        for row in found[:-1]
    ]
    return [*rows, f"indic, random models: terms kept in {found[-1]['kept']} of {found[-1]['translated']} (bar: all)"]


def spoken(count: int) -> list[str]:
    """Terms that are heard, without and with a glossary, in so many scenes; bar: 40 points more, other words no worse."""
    return [row for each in (script.FILM, script.HELD_BACK)[:count] for row in scene.rows(each)]


ROWS = {
    "terms": (enforced, 500),
    "tokens": (tokens, 1000),
    "indic": (indic, 300),
    "whisper": (english.rows, 1),
    "glossary": (spoken, 2),
}
"""What is measured, and how many of it by default."""


def main() -> None:
    """Measure the rows that are named; all of them otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help=", ".join(ROWS))
    parser.add_argument(
        "--count",
        type=int,
        help="sentences (terms: 500, tokens: 1000, indic: 300), recordings (whisper), scenes (glossary)",
    )
    asked = parser.parse_args()
    for name in asked.rows or ROWS:
        measure, usual = ROWS[name]
        for line in measure(asked.count or usual):
            print(line, flush=True)


if __name__ == "__main__":
    main()
