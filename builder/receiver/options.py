"""The loader's command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from builder.receiver.display import shown
from builder.receiver.inventory import LoaderError
from builder.receiver.jobs.job import SUBTITLE, TRANSCRIBE, JobAsked
from builder.receiver.jobs.recordings import language_of, targets_of
from builder.receiver.jobs.terms import LARGEST_TERMS, BrokenTerm, terms_for_job, terms_of

EPILOG = """examples:
  python3 load.py --key sender.pub.pem                 load what this engine lacks, if this key signed it
  python3 load.py --fingerprint 'a1b2 c3d4 e5f6 0718'  the same without a key: the digits as the sender reads them out
  python3 load.py --run call.mp4 talk.wav              transcribe; the results are below whisperbake/jobs
  python3 load.py --run *.mp4 --language German --speakers 2
  python3 load.py --run film.mkv --workflow transcribe --no-diarization
  python3 load.py --run film.mkv --translate English   subtitles in two languages
  python3 load.py --native                             unpack what native runs need; no engine is asked
  python3 load.py --rollback                           back to the version before this one
  python3 load.py --log                                which bundles were loaded here, and when

exit codes:
  0 done                     2 usage, or a recording that can't be used
  3 this machine lacks something: an engine, room, an image
  5 the bundle or a model is damaged, or not what it says; nobody vouches for it; a name is somebody else's
  7 a stage or the acceptance run failed
  8 done without an optional stage: the other results are there
  130 interrupted
  With several recordings: the first of 7, 5, 2, 8 that one of them ended with; 3 ends all."""

ONLY_RUN = ("language", "speakers", "workflow", "no_diarization", "translate", "glossary")
"""Options that say how recordings are transcribed."""

MOST_SPEAKERS = 30


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line, parsed.

    Args:
        words: None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="load.py",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Load a bundle into this machine's container engine: what it lacks, checked byte for byte.",
    )
    add = parser.add_argument
    add("--check", action="store_true", help="read everything once, name damaged parts; needs no engine")
    add("--key", type=Path, metavar="FILE", help="the sender's public key: refuse what it didn't sign")
    add(
        "--fingerprint",
        metavar="HEX",
        help="sha256 of inventory.json, as the sender reads it out: its first 16 digits or more",
    )
    add("--new-key", type=Path, metavar="FILE", help="in place of --key, when the sender has a new one")
    add("--allow-unsigned", action="store_true", help="load it although nobody vouches for who made it")
    add("--allow-older", action="store_true", help="load a bundle that is older than what is loaded")
    more = "another bundle to take bytes from (weights)"
    add("--with", dest="others", type=Path, action="append", default=[], metavar="FOLDER", help=more)
    to = "where this machine's inventory, its log and its jobs are kept (./whisperbake)"
    add("--to", type=Path, default=Path("whisperbake"), metavar="FOLDER", help=to)
    yes_no = argparse.BooleanOptionalAction
    add("--accept", action=yes_no, default=None, help="run the acceptance job afterwards, without being asked")
    add("--native", action="store_true", help="only unpack what native runs need (a bundle made --with-native)")
    add(
        "--rollback",
        action="store_true",
        help="go back to the version before, as it was loaded; once more: forward again",
    )
    add("--log", action="store_true", help="show which bundles were loaded, and when")
    run = parser.add_argument_group("recordings")
    add = run.add_argument
    add("--run", type=Path, nargs="+", metavar="FILE", help="transcribe recordings with what is loaded, a job for each")
    add("--language", metavar="NAME", help="such as en, German, pt-BR; without it the language is detected")
    add("--speakers", type=_speakers, metavar="N", help="how many voices; without it a best guess")
    add("--workflow", choices=(SUBTITLE, TRANSCRIBE), help="with a film that has the subtitles in it, or without")
    add("--no-diarization", action="store_true", help="don't find out who speaks")
    into = "translate the text, too, into languages that the bundle has: en, or en,Spanish"
    add("--translate", metavar="LANGUAGES", help=into)
    add(
        "--glossary",
        type=Path,
        metavar="FILE",
        help="names and terms as they are written, one a line, or a table (.tsv)",
    )
    chosen = parser.parse_args(words)
    if chosen.key and chosen.new_key:
        parser.error("--key and --new-key exclude each other: the new one takes the other's place")
    if not chosen.run and (given := [name for name in ONLY_RUN if getattr(chosen, name) not in (None, False)]):
        parser.error(f"--{given[0].replace('_', '-')} is about recordings: --run FILE...")
    return chosen


def _speakers(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:4]) <= MOST_SPEAKERS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_SPEAKERS}")
    return int(text)


def glossary_of(path: Path | None) -> bytes | None:
    """The job's file for the terms of ``--glossary``; None without it.

    Raises:
        LoaderError: the file can't be read, is YAML, too large or not UTF-8, or a line of it is wrong.
    """
    if path is None:
        return None
    name = shown(str(path))
    if path.suffix.lower() in (".yaml", ".yml"):
        raise LoaderError(2, f"{name}: there is no reader of YAML here", "a term a line (.txt), or a table (.tsv)")
    try:
        with path.open("rb") as source:
            data = source.read(LARGEST_TERMS + 1)
        if len(data) > LARGEST_TERMS:
            raise LoaderError(2, f"{name} has more than {LARGEST_TERMS >> 20} MiB", "a term a line")
        found = terms_of(data.decode("utf-8"), table=path.suffix.lower() == ".tsv")
    except OSError as error:
        raise LoaderError(2, f"{name}: {error.strerror}", "check the path: --glossary FILE") from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LoaderError(2, f"{name}:{line}: this isn't UTF-8", "save the file as UTF-8") from None
    except BrokenTerm as broken:
        wanted = broken.hint or (f"expected: {broken.expected}" if broken.expected else "change this line")
        raise LoaderError(2, f"{name}:{broken.line}: {shown(broken.what)}", shown(wanted)) from None
    if not found:
        raise LoaderError(2, f"{name} has no terms", "a term a line (.txt), or a table (.tsv)")
    return terms_for_job(found)


def asked_of(chosen: argparse.Namespace) -> JobAsked:
    """What is asked of recordings.

    Raises:
        LoaderError: a language that nobody knows, or words that contradict each other.
    """
    if chosen.speakers is not None and chosen.no_diarization:
        raise LoaderError(2, "--speakers needs diarization", "leave out --no-diarization")
    return JobAsked(
        language_of(chosen.language),
        chosen.speakers,
        chosen.workflow,
        not chosen.no_diarization,
        targets_of(chosen.translate),
        glossary_of(chosen.glossary),
    )
