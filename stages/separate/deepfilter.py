"""DeepFilterNet3 on ONNX Runtime: noise out of speech, block by block.

Method: H. Schröter et al., "DeepFilterNet: Perceptually Motivated Real-Time Speech Enhancement" (2023), as its runtime does
it. The network knows spectra of 48 kHz sound: windows of 960 samples, every 480. Sound of 16 kHz has nothing above 8 kHz,
so a third of each number gives the first 161 of its 481 bins, and nothing is resampled.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

HOP = 160
"""Samples of 16 kHz between two windows (10 ms)."""

SIZE = 320
"""Samples of a window."""

HEARD = SIZE // 2 + 1
"""Bins of a spectrum of 16 kHz."""

BINS = 481
"""Bins of the spectrum that the network knows."""

BANDS = 32
"""Bands of equivalent rectangular bandwidth (Glasberg and Moore 1990)."""

DEEP = 96
"""Lowest bins, which are filtered over time; those above get a gain for each band."""

ORDER, BEFORE = 5, 2
"""Windows that a filter takes, and how many of them are before its own."""

AHEAD = 2
"""Windows of the future that the network's convolutions and filters know."""

FADE = 0.99
"""What a running mean keeps from one window to the next (time constant 1 s)."""

WARM = 300
"""Windows that are heard before a block for the recurrent layers' sake (3 s), and whose result is dropped."""

BLOCK = 1000
"""Windows of a block (10 s): the networks take a third of a gigabyte for it, and three times as much for three times as many."""

LEFT = 0.5
"""Part of the noise that is left in (-6 dB). Recognisers lose more words by a trace of the filter's faults than by noise: with
all of it gone tiny.en had more words wrong at 0 dB than with none gone."""

SILENT, CLEAN, NEARLY = -10.0, 30.0, 20.0
"""Local ratio of speech to noise in dB, as the network sees it: below the first there is nothing but noise, above the second
none, and above the third too little for filters."""

ENCODED = ["e0", "e1", "e2", "e3", "emb", "c0", "lsnr"]
"""What the first network tells the others, and the ratio that it hears."""

PARTS = ("enc", "erb_dec", "df_dec")
"""Networks in the archive."""

LARGEST = 16 << 20
"""Bytes of one of them; the real ones have at most 3.4 million."""


class Broken(Exception):
    """The model's file isn't what it should be. The text says why."""


def widths() -> list[int]:
    """Bins of each band: equal steps on the ERB scale, none narrower than two bins."""
    q, bandwidth = 9.265, 24.7
    top = q * np.log1p(24_000 / (bandwidth * q))
    found, before, owed = [], 0, 0
    for k in range(1, BANDS + 1):
        edge = round(float(bandwidth * q * np.expm1(top * k / BANDS / q)) / 50)
        wide = edge - before - owed
        owed = max(2 - wide, 0)
        found.append(max(wide, 2))
        before = edge
    found[-1] += BINS - sum(found)
    return found


def networks(archive: Path) -> dict[str, bytes]:
    """The three networks of the published archive.

    Raises:
        Broken: it is no such archive.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = Path(member.name).stem
                if member.isfile() and member.name.endswith(".onnx") and name in PARTS and member.size <= LARGEST:
                    file = tar.extractfile(member)
                    found[name] = file.read() if file else b""
    except (OSError, EOFError, tarfile.TarError) as error:
        raise Broken(f"{archive.name}: {error}") from error
    if missing := [name for name in PARTS if not found.get(name)]:
        raise Broken(f"{archive.name} has no {missing[0]}.onnx")
    return found


class Cleaner:
    """One sound without its noise. What it keeps from block to block: running means, and the last windows."""

    def __init__(self, sessions: Mapping[str, Any], *, left: float = LEFT) -> None:
        """Args:
        sessions: an inference session for each of :data:`PARTS`.
        left: part of the noise that stays.
        """
        self.sessions, self.left = sessions, left
        place = (np.arange(SIZE) + 0.5) / SIZE
        self.window = np.sin(np.pi / 2 * np.sin(np.pi * place) ** 2).astype(np.float32)
        self.widths = np.array(widths())
        self.starts = np.cumsum(self.widths) - self.widths
        self.loud = np.linspace(-60.0, -90.0, BANDS)
        self.large = np.linspace(0.001, 0.0001, DEEP)

    def cleaned(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """The sound without noise, in arrays of at most :data:`BLOCK` windows, together as long as what came in.

        Args:
            blocks: 16 kHz samples from -1 to 1, in arrays of any length.
        """
        known: list[Any] = [np.zeros((BEFORE, HEARD), np.complex64), np.zeros((0, BANDS), np.float32)]
        known.append(np.zeros((0, 2, DEEP), np.float32))
        done, fresh, tail = 0, 0, np.zeros(HOP, np.float32)
        for spectra, last in self._spectra(blocks):
            known = [np.concatenate(pair) for pair in zip(known, (spectra, *self._features(spectra)), strict=True)]
            fresh += len(spectra)
            ready = fresh if last else fresh - 2 * AHEAD
            if ready <= 0:
                continue
            out = self._filtered(known, len(known[1]) - fresh, ready)
            frames = np.fft.irfft(out, SIZE, axis=1).astype(np.float32) * (self.window * np.float32(SIZE))
            frames[1:, :HOP] += frames[:-1, HOP:]
            frames[0, :HOP] += tail
            tail = frames[-1, HOP:].copy()
            # The first half of the first window is before the sound began.
            yield frames[0 if done else 1 :, :HOP].reshape(-1)
            done += ready
            fresh -= ready
            keep = WARM + fresh
            known = [known[0][-keep - BEFORE :], known[1][-keep:], known[2][-keep:]]

    def _spectra(self, blocks: Iterable[Samples]) -> Iterator[tuple[NDArray[np.complex64], bool]]:
        """Spectra of the windows, in arrays of at most :data:`BLOCK`, and whether they are the last."""
        rest = np.zeros(HOP, np.float32)
        for samples in blocks:
            rest = np.concatenate([rest, samples])
            while len(rest) >= BLOCK * HOP + SIZE:
                yield self._transformed(rest[: (BLOCK + 1) * HOP]), False
                rest = rest[BLOCK * HOP :]
        count = -(-len(rest) // HOP)
        yield self._transformed(np.pad(rest, (0, (count + 1) * HOP - len(rest)))), True

    def _transformed(self, samples: Samples) -> NDArray[np.complex64]:
        windows = np.lib.stride_tricks.sliding_window_view(samples, SIZE)[::HOP]
        return (np.fft.rfft(windows * self.window, axis=1) / SIZE).astype(np.complex64)

    def _features(self, spectra: NDArray[np.complex64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the network hears of each window: bands (windows, 32), lowest bins (windows, 2, 96)."""
        power = np.zeros((len(spectra), BINS))
        power[:, :HEARD] = np.abs(spectra) ** 2
        bands = 10 * np.log10(np.add.reduceat(power, self.starts, axis=1) / self.widths + 1e-10)
        low = spectra[:, :DEEP]
        sizes = np.abs(low).astype(np.float64)
        for row, size in zip(bands, sizes, strict=True):  # a recursion: each window needs the mean of those before
            self.loud = FADE * self.loud + (1 - FADE) * row
            row -= self.loud
            self.large = FADE * self.large + (1 - FADE) * size
            size[:] = self.large
        scaled = low / np.sqrt(np.maximum(sizes, 1e-20))  # a quarter of an hour of silence leaves nothing of a mean
        return (bands / 40).astype(np.float32), np.stack([scaled.real, scaled.imag], axis=1).astype(np.float32)

    def _filtered(self, known: list[Any], first: int, count: int) -> NDArray[np.complex64]:
        """Spectra without noise of ``count`` windows from number ``first`` on; those before them are only heard.

        Args:
            known: spectra of the windows and of two before them, bands, lowest bins.
        """
        end = first + count
        spectra, bands, low = known
        bands, low = (_ahead(features, end) for features in (bands, low))
        given = {"feat_erb": bands[None, None], "feat_spec": np.ascontiguousarray(low.transpose(1, 0, 2))[None]}
        told = dict(zip(ENCODED, self.sessions["enc"].run(ENCODED, given), strict=True))
        (gains,) = self.sessions["erb_dec"].run(["m"], {n: told[n] for n in ("emb", "e3", "e2", "e1", "e0")})
        (filters,) = self.sessions["df_dec"].run(["coefs"], {"emb": told["emb"], "c0": told["c0"]})
        own = spectra[first + BEFORE : end + BEFORE]
        out = own * np.repeat(gains[0, 0, first:], self.widths, axis=1)[:, :HEARD]
        parts = filters[0, first:].reshape(count, DEEP, ORDER, 2)
        near = np.pad(spectra[first : end + ORDER - 1, :DEEP], ((0, max(end + ORDER - 1 - len(spectra), 0)), (0, 0)))
        deep = sum(near[k : k + count] * (parts[:, :, k, 0] + 1j * parts[:, :, k, 1]) for k in range(ORDER))
        ratio = told["lsnr"].reshape(-1, 1)[first:]
        out[:, :DEEP] = np.where(ratio > NEARLY, out[:, :DEEP], deep)
        out = np.where(ratio < SILENT, 0, np.where(ratio > CLEAN, own, out))
        return (out + self.left * (own - out)).astype(np.complex64)

    def ratios(self, samples: Samples) -> NDArray[np.float32]:
        """Ratio of speech to noise by the network, dB from -10 to 35, of a short piece's windows with more than noise."""
        (spectra, _), *_ = self._spectra(iter([samples]))
        bands, low = (_ahead(features, len(spectra)) for features in self._features(spectra))
        given = {"feat_erb": bands[None, None], "feat_spec": np.ascontiguousarray(low.transpose(1, 0, 2))[None]}
        (told,) = self.sessions["enc"].run(["lsnr"], given)
        ratios: NDArray[np.float32] = told.reshape(-1)
        return ratios[ratios > SILENT]


def _ahead(features: NDArray[np.float32], end: int) -> NDArray[np.float32]:
    """Features up to window ``end``, moved so that each place has those :data:`AHEAD` later; zeros after the last."""
    moved = features[AHEAD : end + AHEAD]
    return np.pad(moved, [(0, end - len(moved)), *[(0, 0)] * (features.ndim - 1)])
