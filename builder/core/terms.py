"""Words that all subjects share: mode, variant, workflow, purpose, and the prefix of our labels."""

from __future__ import annotations

from enum import Enum

LABEL = "io.whisperbake."
"""The prefix of our labels on images and containers."""


JOB_SCHEMA = 1
"""The format of job.yaml and of what stages write (docs/job-format.md): an image reads jobs of the one it was built with."""

SEPARATION = "separate"
"""The stage that takes noise out of the sound, and its image."""

MUSIC = "music"
"""The stage that looks for music and singing, and its image."""


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
    """Which stages a job has: ``subtitle`` also has mux, ``translate`` mux and translate."""

    TRANSCRIBE = "transcribe"
    SUBTITLE = "subtitle"
    TRANSLATE = "translate"


class Purpose(str, Enum):
    """What a stage uses a model for. Models for a purpose that no stage has can't be built into images."""

    ASR = "asr"
    VAD = "vad"
    EMBEDDING = "embedding"
    SEGMENTATION = "segmentation"
    """Finds which of a few voices speak, in seconds of sound; comes as an embedding's companion."""
    ALIGNMENT = "alignment"
    DIARIZATION = "diarization"
    SEPARATION = "separation"
    """Takes noise out of speech."""
    VOCALS = "vocals"
    """Takes voices out of music."""
    TAGGING = "tagging"
    """Says which kinds of sound are heard: speech, music, singing."""
    TRANSLATION = "translation"
    TEXT = "text"
    """Splits and tags text."""
    OTHER = "other"
