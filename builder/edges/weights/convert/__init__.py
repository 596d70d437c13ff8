"""Models that are converted once from the file their authors publish. The result is always the same bytes, and has a pin."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import IntegrityError

INT8 = "ctranslate2-int8"
"""The one way that is of no checkpoint of PyTorch's."""


@dataclass(frozen=True, kw_only=True)
class _Way:
    """How a checkpoint becomes an ONNX file."""

    of: str
    """What it is the checkpoint of, for messages."""
    pieces: Callable[[Any], Iterable[bytes]]
    """The ONNX file of the checkpoint's value, in pieces. What is wrong with the value is raised at once."""
    opaque: frozenset[tuple[str, str]] = frozenset()
    """Classes that it names for other uses than tensors; no code of theirs is run."""


def _ways(labels: str) -> Mapping[str, _Way]:
    from builder.edges.weights.convert import campplus, demucs, dvector, segmentation, wav2vec2

    return {
        "dvector-onnx": _Way(
            of="Resemblyzer's speaker encoder", pieces=lambda tree: [dvector.encoder_bytes(tree["model_state"])]
        ),
        "campplus-onnx": _Way(of="3D-Speaker's CAM++", pieces=lambda tree: [campplus.encoder_bytes(tree)]),
        "segmentation-onnx": _Way(
            of="pyannote's segmentation-3.0",
            pieces=lambda tree: [segmentation.segmenter_bytes(tree["state_dict"])],
            opaque=segmentation.OPAQUE,
        ),
        "demucs-onnx": _Way(of="HTDemucs", pieces=demucs.voice_pieces, opaque=demucs.OPAQUE),
        "wav2vec2-onnx": _Way(
            of="a wav2vec2 with these labels", pieces=lambda tree: wav2vec2.aligner_pieces(tree, labels)
        ),
    }


def converter(how: str, labels: str = "") -> Callable[[Path, Path], None]:
    """The function that writes ``result`` from ``source``, for a catalogue entry's ``convert.how`` and ``convert.labels``.

    It raises IntegrityError for a source that is not the checkpoint it should be.
    """
    if how == INT8:
        return _quantise
    way = _ways(labels)[how]

    def convert(source: Path, result: Path) -> None:
        from builder.edges.weights.convert import checkpoints

        with source.open("rb") as file:
            tree = checkpoints.read(file, opaque=way.opaque)
        try:
            pieces = way.pieces(tree)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise IntegrityError(f"not the checkpoint of {way.of}: {error!r}"[:300]) from error
        _write(pieces, result)

    return convert


def _quantise(source: Path, result: Path) -> None:
    from builder.edges.weights.convert import int8

    with source.open("rb") as file:
        _write(int8.pieces(file), result)


def _write(pieces: Iterable[bytes], result: Path) -> None:
    with result.open("wb") as out:
        out.writelines(pieces)
        out.flush()
        os.fsync(out.fileno())
