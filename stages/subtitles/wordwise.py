"""Cues in which each word has its own time: WebVTT with time stamps, and karaoke in ASS. Pure."""

from __future__ import annotations

from cues import Cue
from formats import ass_file, ass_line, ass_text, stamp, voiced, vtt_text
from sentences import Word


def timed_lines(cue: Cue) -> list[list[Word]]:
    """The words of each line of a cue."""
    lines: list[list[Word]] = []
    left = list(cue.words)
    for line in cue.lines:
        taken: list[Word] = []
        while left and len("".join(w.text for w in taken).strip()) < len(line):
            taken.append(left.pop(0))
        lines.append(taken)
    return lines


def vtt(cues: list[Cue]) -> str:
    """WebVTT whose text has a time stamp before each word that begins within its cue (W3C WebVTT, section 4.2.2).

    Stamps lie within their cue and increase, as the standard demands. A word whose time doesn't fit follows its neighbour.
    """
    blocks = ["WEBVTT\n"]
    for cue in cues:
        last = round(cue.start * 1000)
        shown = []
        for line in timed_lines(cue):
            text = ""
            for word in line:
                at = round(word.start * 1000)
                said = vtt_text(word.text if text else word.text.lstrip())
                if last < at < round(cue.end * 1000):
                    space = said[: len(said) - len(said.lstrip())]
                    text += f"{space}<{stamp(at / 1000, '.')}>{said.lstrip()}"
                    last = at
                else:
                    text += said
            shown.append(text)
        text = "\n".join(shown)
        body = voiced(f"<i.lyrics>{text}</i>" if cue.sung else text, cue.speaker)
        blocks.append(f"{stamp(cue.start, '.')} --> {stamp(cue.end, '.')}\n{body}\n")
    return "\n".join(blocks)


def karaoke(cues: list[Cue], speakers: list[str]) -> str:
    r"""ASS in which each word lights up when it is said: ``{\k<hundredths>}`` before it, until the next begins.

    The hundredths of a cue add up to its length, so that no rounding moves the words behind.
    """
    lines = []
    for cue in cues:
        begin, end = round(cue.start * 100), round(cue.end * 100)
        at = begin
        parts = timed_lines(cue)
        flat = [word for line in parts for word in line]
        starts = []
        for word in flat:
            at = min(max(round(word.start * 100), at), end)
            starts.append(at)
        ends = [*starts[1:], end]
        text = f"{{\\k{starts[0] - begin}}}" if starts and starts[0] > begin else ""
        k = 0
        for number, line in enumerate(parts):
            text += r"\N" if number else ""
            for first, word in enumerate(line):
                said = ass_text(word.text if first else word.text.lstrip())
                text += f"{{\\k{ends[k] - starts[k]}}}{said}"
                k += 1
        lines.append(ass_line(cue, speakers, text))
    return ass_file(speakers, lines, waiting="B0B0B0", lyrics=any(cue.sung for cue in cues))
