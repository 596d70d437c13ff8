"""subtitles check: which subtitles of a file, anybody's, break the rules of a profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.languages import require
from builder.edges.jobs.hosts import checking
from builder.edges.system import files
from builder.errors import BakeError, UsageError
from builder.workflows.session import Session

STAGE = "subtitles"


class SubtitlesBreak(BakeError):
    """More subtitles break a rule than may: exit 1, as a linter does."""

    kind = "check"


@dataclass(frozen=True, kw_only=True)
class Breach:
    """A rule that a subtitle breaks."""

    cue: int
    """In the order of the file, from 1 on."""
    start: float
    end: float
    rule: str
    value: float | str
    limit: float | str


@dataclass(frozen=True, kw_only=True)
class FileChecked:
    """One file's subtitles."""

    file: str
    form: str
    """``srt``, ``vtt`` or ``ttml``."""
    cues: int
    breaking: int
    """Those that break a rule."""
    breached: int
    """Rules that were broken."""
    breaches: tuple[Breach, ...]
    """The first of them, in the order of the file."""

    @property
    def percent(self) -> float:
        """Of the subtitles, those that break a rule."""
        return 100 * self.breaking / self.cues if self.cues else 0.0


@dataclass(frozen=True, kw_only=True)
class SubtitlesChecked:
    """Files of subtitles, against one set of rules."""

    profile: str | None
    allowed: float
    """Percent of a file's subtitles that may break a rule."""
    files: tuple[FileChecked, ...]

    @property
    def failure(self) -> BakeError | None:
        """The first file's in which more subtitles break a rule than may."""
        bad = [one for one in self.files if one.percent > self.allowed]
        if not bad:
            return None
        first = bad[0]
        return SubtitlesBreak(
            f"{first.breaking} of {first.cues} subtitles break a rule ({first.percent:.1f} %)",
            where=first.file,
            expected=f"at most {self.allowed:g} %",
            hint="--allow PERCENT lets more through",
        )


def check(session: Session, paths: Sequence[Path], *, allowed: float, language: str | None) -> SubtitlesChecked:
    """Check files against the rules that the session's profile and settings make.

    Args:
        allowed: percent of a file's subtitles that may break a rule.
        language: the text's, as people type it; None: line breaks aren't looked at.

    Raises:
        UsageError: there is no such language, or two rules contradict each other.
        InputError: a file can't be read as subtitles.
    """
    config = session.config
    chosen = config.settings.get(STAGE, {})
    rules = {name: setting.default for name, setting in config.stages[STAGE].settings.items()}
    rules |= {name: setting.value for name, setting in chosen.items()}
    if float(str(rules["min_duration"])) > float(str(rules["max_duration"])):
        raise UsageError("subtitles.min_duration is more than subtitles.max_duration")
    code = None if language is None else require(language, where="--language")
    named = [files.expanded(path) for path in paths]
    answers = checking.check(config.shipped / "stages", named, rules, code)
    return SubtitlesChecked(
        profile=config.defaults.profile,
        allowed=allowed,
        files=tuple(
            FileChecked(
                file=str(path),
                form=answer["format"],
                cues=answer["cues"],
                breaking=answer["breaking"],
                breached=answer["breached"],
                breaches=tuple(Breach(**breach) for breach in answer["breaches"]),
            )
            for path, answer in zip(paths, answers, strict=True)
        ),
    )
