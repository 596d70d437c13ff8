"""Reads BuildKit's plain progress line by line: the step of each image, and why one failed. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

STEP = re.compile(r"^#(\d+) \[(?:(?P<target>[a-z0-9][a-z0-9._-]*) )?(?P<stage>\S+) (?P<count>\d+/\d+)\] (?P<what>.*)$")
NAMING = re.compile(r"^#\d+ naming to (?:docker\.io/)?(\S+?)(?: (?:done|[\d.]+s done))?$")
STATE = re.compile(r"^#(\d+) (DONE|CACHED|ERROR|CANCELED)(.*)$")
LINE = re.compile(r"^#(\d+) [\d.]+ (.*)$")
SIZE = re.compile(r"^size (\S+) (\S+) (\d+)$")

TAIL = 12
"""Lines of a failing step that are kept."""


@dataclass
class Step:
    """A vertex of the build: one instruction of one build stage."""

    image: str
    stage: str
    count: str
    what: str
    cached: bool = False
    ended: bool = False
    lines: list[str] = field(default_factory=list)


@dataclass
class BuildLog:
    """What the lines so far say. ``tags`` maps an image's full tag to its name."""

    tags: dict[str, str]
    steps: dict[str, Step] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """``package==version`` -> unpacked bytes, from the lines that images/tools/steps.py prints."""
    failed: Step | None = None
    done: list[str] = field(default_factory=list)
    """Names of the finished images, in order."""
    _waiting: tuple[str, tuple[str, str]] | None = None

    def feed(self, line: str) -> tuple[str, str] | None:
        """Read one line. Returns (image, its present step) when that changed, ``(image, "")`` when it is done."""
        line = line.rstrip()
        waiting, self._waiting = self._waiting, None
        state = STATE.match(line)
        now = waiting[1] if waiting and not (state and state[1] == waiting[0] and state[2] == "CACHED") else None
        if match := STEP.match(line):
            # With only one target buildx leaves out its name.
            first = match["target"] or next(iter(self.tags.values()), match["stage"])
            step = Step(image=first, stage=match["stage"], count=match["count"], what=match["what"])
            if self.steps.setdefault(match[1], step) is step:
                # Returned with the next line, which tells cached steps: nobody wants to read those.
                self._waiting = (match[1], (first, f"{step.stage} {step.count}: {_short(step.what)}"))
        elif match := NAMING.match(line):
            name = self.tags.get(match[1])
            if name and name not in self.done:
                self.done.append(name)
                return name, ""
        elif state and (found := self.steps.get(state[1])):
            found.ended = state[2] in ("CACHED", "DONE")
            if state[2] == "CACHED":
                found.cached = True
            elif state[2] == "ERROR":
                self.failed = found
        elif (match := LINE.match(line)) and match[1] in self.steps:
            lines = self.steps[match[1]].lines
            lines.append(match[2])
            del lines[:-TAIL]
            if size := SIZE.match(match[2]):
                self.sizes[f"{size[1]}=={size[2]}"] = int(size[3])
        return now

    def progress(self) -> tuple[int, int]:
        """Steps that are done, and steps of the build stages that were heard of; a cached stage tells only its last."""
        done: dict[tuple[str, str], int] = {}
        total: dict[tuple[str, str], int] = {}
        for step in self.steps.values():
            number, _, count = step.count.partition("/")
            key = (step.image, step.stage)
            total[key] = int(count)
            done[key] = max(done.get(key, 0), int(number) if step.ended else 0)
        return sum(done.values()), sum(total.values())

    def built(self, stages: Sequence[str]) -> bool:
        """Whether any step of these build stages ran and was not cached."""
        return any(step.stage in stages and not step.cached for step in self.steps.values())


def _short(what: str) -> str:
    """A step in a few words: no mounts, no JSON."""
    text = re.sub(r"--(?:mount|from|link)\S*\s*", "", what)
    text = re.sub(r'[\["\],]', " ", text)
    return " ".join(text.split())[:60]
