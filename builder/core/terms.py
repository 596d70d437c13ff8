"""Words that all subjects share: mode, variant, workflow, purpose, and the prefix of our labels."""

from __future__ import annotations

from enum import Enum

LABEL = "io.whisperbake."
"""The prefix of our labels on images and containers."""


_CODES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr "
    "ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc "
    "pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue "
    "zh"
)
LANGUAGES = frozenset(_CODES.split())
"""What Whisper's large-v3 knows (yue is new in it); OpenAI's and faster-whisper's tokenizers agree."""


class Mode(str, Enum):
    """Where stages run."""

    NATIVE = "native"
    DOCKER_CPU = "docker-cpu"
    DOCKER_GPU = "docker-gpu"


class Variant(str, Enum):
    """What is inside an image: slim has no PyTorch."""

    SLIM = "slim"
    FULL = "full"


class Workflow(str, Enum):
    """Which stages a job has: ``subtitle`` also has mux."""

    TRANSCRIBE = "transcribe"
    SUBTITLE = "subtitle"


class Purpose(str, Enum):
    """What a stage uses a model for. Models for a purpose that no stage has can't be built into images."""

    ASR = "asr"
    VAD = "vad"
    EMBEDDING = "embedding"
    ALIGNMENT = "alignment"
    DIARIZATION = "diarization"
    SEPARATION = "separation"
    """Separates voices from music."""
    TRANSLATION = "translation"
    TEXT = "text"
    """Splits and tags text."""
    OTHER = "other"
