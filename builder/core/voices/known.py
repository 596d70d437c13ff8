"""Known voices: embeddings of people, by which jobs give their speakers names. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from builder.core.jobs.edits import SPEAKER, one_line
from builder.core.jobs.names import LONGEST_NAME
from builder.core.jobs.request import Request
from builder.core.terms import Purpose
from builder.core.weights.model import model_digest
from builder.errors import UsageError

FILE = "input/voices.json"
"""In a job's folder: the voices that its speakers are compared with."""

STAGE, SETTING, ENROL = "diarize", "voices", "enrol"
"""The stage that compares, its setting with the digest of :data:`FILE`, and the one that makes it write down a voice."""

MODELS = ("campplus",)
"""Embeddings that tell people apart well enough to name them; :data:`THRESHOLD` is of the first."""

LONGEST_CONSENT = 500
"""Characters of a note of consent."""

MOST = 500
"""Voices of one folder that jobs are given."""

DIMENSIONS = 192

SHORTEST = 5.0
"""Seconds of speech below which a voice is not kept."""


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One person's voice."""

    name: str
    model: str
    """Id of the embedding that it is of."""
    digest: str
    """Of that model; another model's vectors say nothing."""
    vector: tuple[float, ...]
    """Of unit length, but for rounding."""
    seconds: float
    """Of speech that it was made of."""
    added: str
    """ISO 8601, UTC."""
    consent: str = ""
    """What the person agreed to, in words of whoever added it."""

    @property
    def file(self) -> str:
        """The name of its file: of any name as a person types it, one that is safe."""
        key = "\0".join((same(self.name), self.digest))
        return f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def same(name: str) -> str:
    """What two spellings of one name have in common."""
    return unicodedata.normalize("NFKC", name).casefold()


def checked_name(text: str) -> str:
    """A person's name as it will be written.

    Raises:
        UsageError: it can't be one.
    """
    name = unicodedata.normalize("NFC", one_line(text))
    if not name or len(name) > LONGEST_NAME or SPEAKER.fullmatch(name):
        raise UsageError(
            f'"{name[:LONGEST_NAME]}" can\'t be a name', expected=f"1 to {LONGEST_NAME} characters, and not S1, S2 …"
        )
    return name


def checked_consent(text: str) -> str:
    """A note of consent on one line.

    Raises:
        UsageError: it is too long.
    """
    note = one_line(text)
    if len(note) > LONGEST_CONSENT:
        raise UsageError(f"a note of {len(note)} characters", where="--consent", expected=f"up to {LONGEST_CONSENT}")
    return note


def to_json(voice: Voice) -> str:
    """A voice's file."""
    data = {
        "schema": 1,
        "name": voice.name,
        "model": {"id": voice.model, "digest": voice.digest},
        "seconds": voice.seconds,
        "added": voice.added,
        "consent": voice.consent,
        "vector": list(voice.vector),
    }
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def from_json(data: Any) -> Voice | None:
    """The voice in a file; None where it is none of ours."""
    try:
        voice = Voice(
            name=checked_name(data["name"]),
            model=str(data["model"]["id"])[:LONGEST_NAME],
            digest=str(data["model"]["digest"])[:LONGEST_CONSENT],
            vector=vector_of(data["vector"]),
            seconds=float(data["seconds"]),
            added=str(data["added"])[:LONGEST_NAME],
            consent=checked_consent(str(data["consent"])),
        )
        return voice if data["schema"] == 1 and math.isfinite(voice.seconds) else None
    except (UsageError, KeyError, TypeError, ValueError, AttributeError):
        return None


def vector_of(data: Any) -> tuple[float, ...]:
    """An embedding of JSON.

    Raises:
        ValueError: it is none.
    """
    whole = isinstance(data, list) and len(data) == DIMENSIONS
    if not whole or not all(isinstance(x, float | int) and not isinstance(x, bool) for x in data):
        raise ValueError("not an embedding")
    length = math.sqrt(sum(x * x for x in data))
    if not 0.9 < length < 1.1:
        raise ValueError(f"an embedding of length {length}")
    return tuple(map(float, data))


def ordered(voices: Iterable[Voice]) -> list[Voice]:
    """Voices by their names."""
    return sorted(voices, key=lambda voice: (same(voice.name), voice.digest))


def fitting(voices: Iterable[Voice], digest: str | None) -> tuple[list[Voice], list[Voice]]:
    """The voices of a job's embedding, and the others; by their names.

    Args:
        digest: of the job's embedding; None: it has none.
    """
    every = ordered(voices)
    return [v for v in every if v.digest == digest][:MOST], [v for v in every if v.digest != digest]


def for_job(voices: Sequence[Voice]) -> bytes:
    """:data:`FILE`: names and vectors only. The same voices make the same bytes."""
    data = {
        "schema": 1,
        "threshold": THRESHOLD,
        "voices": [{"name": voice.name, "vector": list(voice.vector)} for voice in voices],
    }
    return json.dumps(data, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def with_voices(request: Request, voices: Iterable[Voice]) -> Request:
    """A request whose speakers are compared with the known voices of its embedding."""
    embedding = request.models.get(Purpose.EMBEDDING)
    fit, others = fitting(voices, model_digest(embedding[1]) if embedding else None)
    own = embedding[0].id if embedding else "a pipeline's own"
    warning = ""
    if others:
        names = ", ".join(dict.fromkeys(voice.name for voice in others if voice.name not in {v.name for v in fit}))
        warning = f"not compared with the voices of {names}: they are of another embedding than {own}" if names else ""
    if not fit:
        return replace(request, warning=warning)
    data = for_job(fit)
    settings = {**request.settings.get(STAGE, {}), SETTING: hashlib.sha256(data).hexdigest()}
    return replace(request, voices=data, warning=warning, settings={**request.settings, STAGE: settings})


THRESHOLD = 0.5
"""Cosine similarity of two embeddings from which they are one person's."""

FALSE_ACCEPTS: float | None = 0.03
FALSE_REJECTS: float | None = 1.0
"""Percent of comparisons with strangers that reach it, and of those with the same person that don't; None: not measured.

Strangers: 10 of 31 125 pairs of 250 readers (4 s each), and 0 of 3130 comparisons with 10 known ones (18 s). The same person: 1
of 100 sentences (6 s), 30 of them with noise at 10 dB. By telephone 62 of 70 were missed: the voice had no telephone.
"""

MEASURED = "260 readers of LibriSpeech, the same microphone"
"""What these figures come from."""
