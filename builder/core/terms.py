"""The words that every subject shares: mode, variant, workflow, purpose, and the prefix of our labels."""

from __future__ import annotations

from enum import Enum

LABEL = "io.whisperbake."
"""What stands before the names of our own labels of images and containers."""


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
    """Which stages a job has: ``subtitle`` ends with mux, ``transcribe`` without."""

    TRANSCRIBE = "transcribe"
    SUBTITLE = "subtitle"


class Purpose(str, Enum):
    """What a stage uses a model for. A purpose that no stage uses is refused for building."""

    ASR = "asr"
    VAD = "vad"
    EMBEDDING = "embedding"
    ALIGNMENT = "alignment"
    DIARIZATION = "diarization"
    SEPARATION = "separation"
    """Voices from music."""
    TRANSLATION = "translation"
    TEXT = "text"
    """What splits and tags text."""
    OTHER = "other"
