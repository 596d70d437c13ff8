"""What the commands share: their options, a session, and how a result is printed."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from builder.cli.failures import unwritten
from builder.core.text import visible
from builder.errors import MissingError
from builder.receiver.display import behind
from builder.views import Found, View

if TYPE_CHECKING:
    from builder.core.jobs.request import JobOptions
    from builder.core.platforms import Platform
    from builder.errors import BakeError
    from builder.workflows.images import ImageSelection
    from builder.workflows.session import Session


@dataclass
class Globals:
    """What stands before the sub-command."""

    home: Path | None = None
    quiet: bool = False
    debug: bool = False
    streaming: bool = False
    """Results are printed one JSON document a line: an error is the last line."""


GLOBALS = Globals()

Json = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")]
ModeOption = Annotated[str | None, typer.Option("--mode", help="native, docker-cpu or docker-gpu.")]
VariantOption = Annotated[str | None, typer.Option("--variant", help="slim (no PyTorch) or full.")]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="auto, fast, starter, balanced, high, premium or tiny-en.")
]
PresetsOption = Annotated[
    str | None,
    typer.Option("--preset", help="auto, fast, starter, balanced, high, premium or tiny-en; or several: a,b"),
]
ModelsOption = Annotated[str | None, typer.Option("--models", help="Model ids in place of the preset's: a,b")]
LanguagesOption = Annotated[str | None, typer.Option("--languages", help="A pinned model of alignment for each: en")]
PlatformOption = Annotated[
    str | None,
    typer.Option("--platform", metavar="OS/ARCH[,OS/ARCH]", help="linux/amd64, linux/arm64. Default: the engine's."),
]
NoDiarization = Annotated[bool, typer.Option("--no-diarization", help="Leave out who speaks when.")]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", help="baked into images, or mounted from an image of their own (Docker 28, podman)."),
]
NoVoices = Annotated[bool, typer.Option("--no-voices", help="Name nobody by a known voice (voices list).")]
WorkflowOption = Annotated[
    str | None, typer.Option("--workflow", help="transcribe, subtitle or translate. Default: a film for video.")
]
LanguageOption = Annotated[
    str | None,
    typer.Option("--language", "--source-language", "-s", help="Such as en, German; auto-segments. Default: detected."),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", "-t", metavar="LANG[,LANG]", help="Translate into these, beside what is said: en."),
]
NamesOption = Annotated[
    bool, typer.Option("--names", help="Find people, places and organisations (English): .names.tsv.")
]
CastOption = Annotated[
    str | None,
    typer.Option(
        "--cast", metavar="FILE", help="Names, one a line, that the text is spelt by: Homes is Holmes. English."
    ),
]
MetadataOption = Annotated[
    str | None,
    typer.Option(
        "--metadata",
        metavar="cached|online",
        help="What the files are, who plays whom: by answers that are kept, or also new ones.",
    ),
]
SeparateOption = Annotated[
    str | None,
    typer.Option(
        "--separate",
        help="Take noise, or music by --models demucs, out before words are heard: auto, on, off (default).",
    ),
]
LyricsOption = Annotated[
    str | None, typer.Option("--lyrics", help="Words that are sung: keep (default), mark (with notes), drop.")
]
StartOption = Annotated[str | None, typer.Option("--start", help="Clip from here: seconds or [h:]m:s.")]
EndOption = Annotated[str | None, typer.Option("--end", help="Clip up to here: seconds or [h:]m:s.")]
TaskOption = Annotated[
    str | None, typer.Option("--task", help="transcribe (default), or translate: the text is English.")
]
PromptOption = Annotated[
    str | None, typer.Option("--prompt", help="Text before the sound: names, spelling, style. Up to 223 tokens.")
]
HotwordsOption = Annotated[
    str | None, typer.Option("--hotwords", help="Words that are likely to be said: Ada Lovelace, ACME.")
]
GlossaryOption = Annotated[
    str | None,
    typer.Option(
        "--glossary",
        metavar="FILE",
        help="Terms, one a line, or .tsv or .yaml; none. Default: the one beside bake.yaml.",
    ),
]
MinSpeakersOption = Annotated[
    int | None, typer.Option("--min-speakers", min=1, max=30, help="At least so many voices.")
]
MaxSpeakersOption = Annotated[int | None, typer.Option("--max-speakers", min=1, max=30, help="At most so many voices.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.NAME=VALUE", help="A stage's setting: subtitles.lines=1. See settings."),
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="A named group of settings: netflix, bbc, ebu, web, or bake.yaml's own.")
]
SpeakersOption = Annotated[
    int | None, typer.Option("--speakers", min=1, max=30, help="How many voices. Default: a best guess.")
]
TrackOption = Annotated[
    str | None,
    typer.Option("--track", help="Audio track: 1, 2…, a language, all. Default: its default, or the one with speech."),
]
ChannelsOption = Annotated[
    str | None, typer.Option("--channels", help="split: each channel is heard apart, and is a speaker. Default: mix.")
]
TimesOption = Annotated[
    str | None, typer.Option("--times", help="Times of a clip: the recording's (default), or clip for its own.")
]
FormatsOption = Annotated[
    str | None,
    typer.Option(
        "--formats",
        metavar="LIST",
        help="Of srt, vtt, words.vtt, ass, karaoke.ass, ttml, scc, txt, docx, csv, tsv, json, rttm; or all. "
        "Default: srt,vtt,ass,txt,json,rttm.",
    ),
]
BurnOption = Annotated[
    bool, typer.Option("--burn", help="Also make a film with the subtitles drawn into its picture (.burned.mp4).")
]
NoBuild = Annotated[bool, typer.Option("--no-build", help="Images that are missing are an error.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu or cuda. Default: what is here.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, max=512, help="Default: one a core.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", min=0, max=128, help="0: one window after the other.")]


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The options of every command that plans images."""

    mode: ModeOption = None
    variant: VariantOption = None
    preset: PresetsOption = None
    models: ModelsOption = None
    languages: LanguagesOption = None
    no_diarization: NoDiarization = False
    weights: WeightsOption = None

    def opened(self, *, mode: str | None = None, may_ask: bool = False) -> AbstractContextManager[Session]:
        """A session with these options; ``mode`` is the command's own default."""
        return opened(
            may_ask=may_ask,
            mode=self.mode or mode,
            variant=self.variant,
            preset=parted(self.preset)[0],
            weights=self.weights,
        )

    def selection(self, names: Sequence[str] | None = None) -> ImageSelection:
        """Which images, with which models."""
        from builder.workflows.images import ImageSelection

        return ImageSelection(
            models=self.models,
            languages=self.languages,
            diarization=not self.no_diarization,
            presets=parted(self.preset)[1],
            names=tuple(names or ()),
        )


def platforms(text: str | None) -> tuple[Platform, ...]:
    """What ``--platform`` names.

    Raises:
        UsageError: no images are built for one of them.
    """
    from builder.core import platforms as known

    return known.parse(text, where="--platform")


def parted(preset: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The first of the presets ``a,b``, which a session has, and the others."""
    words = list(dict.fromkeys(word.strip() for word in (preset or "").split(",") if word.strip()))
    return (words[0] if words else preset), tuple(words[1:])


@dataclass(frozen=True, kw_only=True)
class NewJobOptions:
    """The options of every command that makes a job."""

    workflow: WorkflowOption = None
    preset: PresetOption = None
    models: ModelsOption = None
    language: LanguageOption = None
    to: ToOption = None
    names: NamesOption = False
    cast: CastOption = None
    metadata: MetadataOption = None
    separate: SeparateOption = None
    lyrics: LyricsOption = None
    start: StartOption = None
    end: EndOption = None
    times: TimesOption = None
    formats: FormatsOption = None
    burn: BurnOption = False
    track: TrackOption = None
    channels: ChannelsOption = None
    task: TaskOption = None
    prompt: PromptOption = None
    hotwords: HotwordsOption = None
    glossary: GlossaryOption = None
    speakers: SpeakersOption = None
    min_speakers: MinSpeakersOption = None
    max_speakers: MaxSpeakersOption = None
    no_diarization: NoDiarization = False
    no_voices: NoVoices = False
    device: DeviceOption = None
    threads: ThreadsOption = None
    batch_size: BatchOption = None
    set: SetOption = None
    profile: ProfileOption = None
    mode: ModeOption = None
    variant: VariantOption = None
    weights: WeightsOption = None

    def opened(self) -> AbstractContextManager[Session]:
        """A session with these options."""
        return opened(
            may_ask=True,
            mode=self.mode,
            variant=self.variant,
            preset=self.preset,
            weights=self.weights,
            workflow=self.workflow,
            language=self.language,
            profile=self.profile,
            settings=self.set,
        )

    def job(self) -> JobOptions:
        """What the job is asked to do."""
        from builder.core.jobs.request import JobOptions

        return JobOptions(
            models=self.models,
            start=self.start,
            end=self.end,
            speakers=self.speakers,
            min_speakers=self.min_speakers,
            max_speakers=self.max_speakers,
            diarization=not self.no_diarization,
            voices=not self.no_voices,
            device=self.device,
            threads=self.threads,
            batch_size=self.batch_size,
            track=self.track,
            channels=self.channels,
            times=self.times,
            formats=self.formats,
            task=self.task,
            prompt=self.prompt,
            hotwords=self.hotwords,
            burn=self.burn,
            to=self.to,
            names=self.names,
            cast=self.cast,
            glossary="auto" if self.glossary is None else self.glossary,
            metadata=self.metadata,
            separate=self.separate,
            lyrics=self.lyrics,
        )


@dataclass(frozen=True, kw_only=True)
class ComparedJobOptions:
    """The options of jobs that are compared: what is the same for every preset."""

    language: LanguageOption = None
    speakers: SpeakersOption = None
    min_speakers: MinSpeakersOption = None
    max_speakers: MaxSpeakersOption = None
    no_diarization: NoDiarization = False
    device: DeviceOption = None
    threads: ThreadsOption = None
    batch_size: BatchOption = None
    set: SetOption = None
    mode: ModeOption = None
    variant: VariantOption = None

    def opened(self) -> AbstractContextManager[Session]:
        """A session with these options; no film is made."""
        return opened(
            mode=self.mode, variant=self.variant, workflow="transcribe", language=self.language, settings=self.set
        )

    def job(self) -> JobOptions:
        """What each job is asked to do."""
        from builder.core.jobs.request import JobOptions

        return JobOptions(
            speakers=self.speakers,
            min_speakers=self.min_speakers,
            max_speakers=self.max_speakers,
            diarization=not self.no_diarization,
            device=self.device,
            threads=self.threads,
            batch_size=self.batch_size,
            voices=False,  # nobody's name is compared
        )


NO_IMAGE_OPTIONS = ImageOptions()
NO_JOB_OPTIONS = NewJobOptions()
NO_COMPARED_OPTIONS = ComparedJobOptions()


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of these types become those types' options, in their places."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hints.pop(name) for name, kind in list(hints.items()) if is_dataclass(kind)}
    shared = {group: get_type_hints(kind, include_extras=True) for group, kind in groups.items()}

    @wraps(command)
    def whole(**arguments: Any) -> None:
        for group, kind in groups.items():
            given = {name: arguments.pop(name) for name in shared[group] if name in arguments}
            arguments[group] = kind(**given)
        command(**arguments)

    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if (group := parameter.name) in groups:
            parameters += [_option(name, shared[group][name], getattr(groups[group], name)) for name in shared[group]]
        else:
            parameters.append(_option(parameter.name, hints[parameter.name], parameter.default))
    whole.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what typer reads
    whole.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return whole


def _option(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def opened(*, may_ask: bool = False, **overrides: object) -> AbstractContextManager[Session]:
    """A session with these options.

    Args:
        may_ask: the command fetches models: the hub may be asked what it has.
    """
    from builder.workflows.session import open_session

    try:
        start = Path.cwd()
    except FileNotFoundError as error:
        raise MissingError("the current folder is gone", hint="cd to a folder that exists") from error
    return open_session(
        home=GLOBALS.home,
        quiet=GLOBALS.quiet,
        env=os.environ,
        start=start,
        overrides=overrides,
        may_ask=may_ask,
    )


def print_json(data: Any, *, compact: bool = False) -> None:
    """One JSON document on standard output; ``compact``: on one line, as part of a stream."""
    import json

    unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    text = json.dumps(data, indent=None if compact else 2, ensure_ascii=not unicode, default=vars)
    # JSON leaves C1 controls and what turns the direction of text as they are; inside its strings an escape is the same.
    emit(visible(text, keep="\n", escape=lambda character: json.dumps(character)[1:-1]))
    if compact:
        flush()


def emit(text: str) -> None:
    """A line, or several, on standard output.

    Raises:
        MissingError: it can't be written; a reader that has gone is a BrokenPipeError.
    """
    with _written():
        print(text)


def flush() -> None:
    """Nothing of the result waits in memory any longer; raises as :func:`emit`."""
    with _written():
        sys.stdout.flush()


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritten(error) from error


def show(as_json: bool, view: View[Found], found: Found, *, failure: BakeError | None = None) -> None:
    """Print a result: JSON for scripts, otherwise lines for people, both on standard output.

    Args:
        failure: what failed although there is a result, such as a check that found differences. In JSON it is the
            result's ``error``; a list that failed is the ``result`` beside it.

    Raises:
        BakeError: ``failure``, after the result is printed.
    """
    if as_json:
        print_json(_with_error(view.data(found), failure))
    elif text := view.text(found):
        emit(text)
    if failure is not None:
        raise failure


def show_again(as_json: bool, view: View[Found], found: Found, *, clear: bool = False) -> None:
    """Print one of several results in a row: a JSON line, or text.

    Args:
        clear: empty a terminal's screen before the text.
    """
    if as_json:
        GLOBALS.streaming = True
        print_json(view.data(found), compact=True)
    else:
        if clear and sys.stdout.isatty():
            behind(sys.stdout).write("\x1b[H\x1b[2J\x1b[3J")
        emit(view.text(found))
        flush()


def _with_error(data: Any, failure: BakeError | None) -> Any:
    if failure is None:
        return data
    from builder import ui

    failure.in_result = True
    error = ui.error_data(failure)
    return {**data, **error} if isinstance(data, dict) else {**error, "result": data}
