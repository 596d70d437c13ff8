"""YAMNet on ONNX Runtime: which of AudioSet's 521 kinds of sound are heard, every half second.

Hershey et al., "CNN Architectures for Large-Scale Audio Classification" (2017); Howard et al., "MobileNets" (2017). The numbers
of its spectra are those of the published model's parameters (tensorflow/models, research/audioset/yamnet). The file is
Qualcomm's export, whose numbers have 8 bits.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

WINDOW, HOP, SIZE = 400, 160, 512
"""Samples of 16 kHz that a spectrum is of (25 ms), samples between two (10 ms), and the length of the transform."""

BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0
"""Bands of a spectrum, and their range in Hz."""

OFFSET = 0.001
"""What is added to a band before its logarithm."""

FRAMES, STEP = 96, 48
"""Spectra that the network hears at once (0.96 s), and spectra between two of these."""

SCALE, ZERO = 0.04793788, 144
"""A number of 8 bits that goes in: (a band's logarithm) / SCALE + ZERO."""

OUT_SCALE, OUT_ZERO = 0.7565417, 190
"""Log odds of a kind of sound: SCALE * (the number that comes out - ZERO)."""

SPEECH, SINGING, MUSIC = (0, 1, 2, 3), tuple(range(24, 33)), (132,)
"""Kinds of sound, by their numbers in AudioSet's list of YAMNet: speech of grown-ups, children, talk and narration; singing,
choirs, chants, rap and humming; music."""

PARTS = ("model.onnx", "model.data")
"""Files in the archive."""

LARGEST = 32 << 20
"""Bytes of one of them; the real ones have 65 thousand and 15 million."""


class Broken(Exception):
    """The model's file isn't what it should be. The text says why."""


def unpacked(archive: Path, folder: Path) -> Path:
    """The network's file, with its weights beside it in ``folder``.

    Raises:
        Broken: it is no such archive.
    """
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(archive) as members:
            for member in members.infolist():
                name = member.filename.rpartition("/")[2]
                if name in PARTS and member.file_size <= LARGEST:
                    found[name] = members.read(member)
    except (OSError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError) as error:
        raise Broken(f"{archive.name}: {error}") from error
    if missing := [name for name in PARTS if not found.get(name)]:
        raise Broken(f"{archive.name} has no {missing[0]}")
    for name, data in found.items():
        (folder / name).write_bytes(data)
    return folder / PARTS[0]


def session(archive: Path) -> Any:
    """An inference session of the network.

    Raises:
        Broken: it is no such archive, or no such network.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the same numbers everywhere
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        model = unpacked(archive, Path(folder))
        try:
            return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise Broken(f"{archive.name}: {error}") from error


def filters() -> NDArray[np.float32]:
    """[257, 64]: how much of each bin is in each band; triangles, equally wide on the mel scale of HTK."""

    def mel(hz: Any) -> Any:
        return 1127.0 * np.log1p(np.asarray(hz) / 700.0)

    bins = mel(np.linspace(0.0, 8000.0, SIZE // 2 + 1))[:, None]
    edges = np.linspace(mel(LOWEST), mel(HIGHEST), BANDS + 2)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    found = np.maximum(0.0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))
    found[0] = 0.0
    return found.astype(np.float32)


class Tagger:
    """Hears which kinds of sound there are."""

    def __init__(self, network: Any) -> None:
        """Args:
        network: of :func:`session`.
        """
        self.network = network
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
        self.filters = filters()

    def heard(self, blocks: Iterable[Samples]) -> Iterator[NDArray[np.float32]]:
        """Log odds of speech, singing and music, [3], each of 0.96 s of the sound, every 0.48 s.

        A sound of less than 0.96 s is filled up with silence; what is left at an end of another isn't heard.

        Args:
            blocks: 16 kHz samples from -1 to 1, in arrays of any length.
        """
        rest = np.zeros(0, np.float32)
        known = np.zeros((0, BANDS), np.float32)
        short = True
        for samples in blocks:
            rest = np.concatenate([rest, samples])
            count = (len(rest) - WINDOW) // HOP + 1
            if count > 0:
                known = np.concatenate([known, self._spectra(rest, count)])
                rest = rest[count * HOP :]
            while len(known) >= FRAMES:
                yield self._tagged(known[:FRAMES])
                known, short = known[STEP:], False
        if short:
            filled = np.pad(rest, (0, WINDOW + FRAMES * HOP))
            known = np.concatenate([known, self._spectra(filled, FRAMES)])
            yield self._tagged(known[:FRAMES])

    def _spectra(self, samples: Samples, count: int) -> NDArray[np.float32]:
        windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[: count * HOP : HOP]
        loud = np.abs(np.fft.rfft(windows * self.window, SIZE, axis=1)).astype(np.float32)
        return np.log(loud @ self.filters + np.float32(OFFSET))

    def _tagged(self, spectra: NDArray[np.float32]) -> NDArray[np.float32]:
        given = np.clip(np.rint(spectra / np.float32(SCALE) + ZERO), 0, 255).astype(np.uint8)
        (out,) = self.network.run(None, {"audio": given[None, None]})
        odds = OUT_SCALE * (np.asarray(out, np.float32).reshape(-1) - OUT_ZERO)
        return np.array([odds[list(kinds)].max() for kinds in (SPEECH, SINGING, MUSIC)], np.float32)
