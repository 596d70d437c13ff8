"""Stage separate: what it does around the network, which has no part in it here."""

from __future__ import annotations

import io
import tarfile
import wave
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from builder.core.jobs.request import JobOptions, Request, plan_stages, tagging
from builder.core.terms import SEPARATION, Purpose, Workflow
from builder.core.weights.model import FilePin, Pin
from builder.edges.machine import project
from builder.workflows import host
from tests.conftest import ROOT, stage_module

CONFIG = project.load(ROOT, env={})

deepfilter = stage_module("separate", "deepfilter")
main = stage_module("separate", "main")


class Network:
    """Tells of every window that it is as noisy as ``ratio``, and leaves it as it is."""

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def run(self, names: Sequence[str], given: Mapping[str, Any]) -> list[Any]:
        assert all(np.isfinite(values).all() for values in given.values())
        count = next(iter(given.values())).shape[-2]
        filters = np.zeros((1, count, deepfilter.DEEP, 2 * deepfilter.ORDER), np.float32)
        filters[..., 2 * deepfilter.BEFORE] = 1
        told = {
            "lsnr": np.full((1, count, 1), self.ratio, np.float32),
            "m": np.ones((1, 1, count, deepfilter.BANDS), np.float32),
            "coefs": filters,
            "emb": np.zeros((1, count, 512), np.float32),
        }
        return [told.get(name, np.zeros((1, 64, count, 8), np.float32)) for name in names]


def cleaned(samples: Any, ratio: float, *, read: int = 7000, left: float = 0.0) -> Any:
    cleaner = deepfilter.Cleaner({part: Network(ratio) for part in deepfilter.PARTS}, left=left)
    blocks = (samples[k : k + read] for k in range(0, len(samples), read))
    return np.concatenate(list(cleaner.cleaned(blocks)))[: len(samples)]


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks in a second of sound."""
    monkeypatch.setattr(deepfilter, "BLOCK", 40)
    monkeypatch.setattr(deepfilter, "WARM", 10)


@pytest.mark.parametrize("count", [1, 159, 160, 320, 6400, 6560, 16_001])
@pytest.mark.parametrize("ratio", [0.0, 25.0, 34.0])
def test_what_the_network_leaves_alone_comes_out_as_it_was(count: int, ratio: float) -> None:
    """Filters, gains and nothing at all, in blocks whose ends are nowhere to be heard."""
    sound = np.random.default_rng(count).uniform(-0.5, 0.5, count).astype(np.float32)
    assert np.abs(cleaned(sound, ratio) - sound).max() < 1e-5


def test_how_the_sound_is_read_changes_nothing() -> None:
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, 20_000).astype(np.float32)
    assert np.array_equal(cleaned(sound, 0.0, read=160), cleaned(sound, 0.0, read=50_000))


def test_a_long_silence_stays_one() -> None:
    cleaner = deepfilter.Cleaner({part: Network(0.0) for part in deepfilter.PARTS})
    cleaner.large[:] = 0  # as after a quarter of an hour
    assert not np.concatenate(list(cleaner.cleaned([np.zeros(8000, np.float32)]))).any()


def test_of_noise_alone_a_part_is_left() -> None:
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, 8000).astype(np.float32)
    assert np.abs(cleaned(sound, -12.0, left=0.5) - sound / 2).max() < 1e-5


def test_bands_have_all_bins_and_two_at_least() -> None:
    widths = deepfilter.widths()
    assert (len(widths), sum(widths), min(widths), widths[-1]) == (32, 481, 2, 67)


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_the_networks_are_read_out_of_their_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {f"tmp/export/{part}.onnx": part.encode() for part in deepfilter.PARTS}
    found = deepfilter.networks(archive(tmp_path / "a.tar.gz", {**whole, "tmp/config.ini": b"[df]"}))
    assert found == {part: part.encode() for part in deepfilter.PARTS}
    with pytest.raises(deepfilter.Broken, match=r"has no df_dec\.onnx"):
        deepfilter.networks(archive(tmp_path / "b.tar.gz", dict(list(whole.items())[:2])))
    monkeypatch.setattr(deepfilter, "LARGEST", len("erb_dec") - 1)
    with pytest.raises(deepfilter.Broken, match=r"has no erb_dec\.onnx"):
        deepfilter.networks(tmp_path / "a.tar.gz")


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b", b"no archive"])
def test_another_file_is_named(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.tar.gz").write_bytes(data)
    with pytest.raises(deepfilter.Broken, match=r"c\.tar\.gz"):
        deepfilter.networks(tmp_path / "c.tar.gz")


def test_noise_goes_where_there_is_enough_of_it() -> None:
    assert decided("auto", main.NOISY - 1)[0] == main.NOISE
    assert decided("auto", main.NOISY) == (
        None,
        f"noise is left in: speech is {main.NOISY:.0f} dB above the noise, and taking it out can cost words",
    )
    assert decided("on", 30.0)[0] == main.NOISE
    assert decided("on", None) == (None, "noise is left in: there is nothing else")


def decided(
    mode: str, lowest: float | None, music: float | None = None, *, voices: bool = False
) -> tuple[str | None, str]:
    found = main.decided(mode, lowest, music, voices=voices)
    return found.way, found.why


def test_the_voice_is_taken_out_of_music_where_there_is_a_model_for_it() -> None:
    """Music counts before noise; ``on`` needs no reason; without a model the job says so."""
    assert decided("auto", 1.0, main.MUSICAL, voices=True) == (
        main.VOICE,
        "the voice is taken out of the music: there is music in 20% of it",
    )
    assert decided("auto", 1.0, main.MUSICAL - 0.01, voices=True)[0] == main.NOISE
    assert decided("auto", None, None, voices=True)[0] is None
    assert decided("on", 30.0, None, voices=True)[0] == main.VOICE
    way, why = decided("auto", 30.0, 0.5)
    assert way is None
    assert why.endswith("; there is music in 50% of it, and no model for voices is chosen")


@pytest.mark.parametrize("seconds", [0.0, 0.01, 5.0, 200.0])
def test_a_recording_of_any_length_is_listened_to(seconds: float, tmp_path: Path) -> None:
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, round(seconds * main.RATE))
    recorded(tmp_path / "01.wav", sound)
    cleaner = deepfilter.Cleaner({"enc": Network(3.0)})
    assert main.ratio(tmp_path / "01.wav", cleaner) == (3.0 if seconds else None)
    assert main.ratio(tmp_path / "01.wav", deepfilter.Cleaner({"enc": Network(-14.0)})) is None


def recorded(path: Path, sound: Any) -> Path:
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, main.RATE, 0, "NONE", ""))
        wav.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


def test_the_noisiest_channel_decides_and_all_keep_their_length(tmp_path: Path) -> None:
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, 16_001)
    paths = [recorded(tmp_path / f"01.c{k}.wav", sound) for k in (1, 2)]
    ratios = iter([main.NOISY + 9, main.NOISY - 1, 34.0, 34.0])
    done: list[float] = []
    job = SimpleNamespace(
        sounds=lambda recording: paths,
        settings={"mode": "auto"},
        uses={main.NOISE: {"id": "n"}},
        has=lambda stage: False,
        note=lambda *_: None,
        progress=lambda _, seconds, total: done.append(round(seconds / total, 2)),
        writing=lambda name: nullcontext(tmp_path / f"new.{name}"),
    )

    def cleaner() -> Any:
        ratio = next(ratios)
        return deepfilter.Cleaner({part: Network(ratio) for part in deepfilter.PARTS})

    found = main.separated(job, None, main.Networks(cleaner, None))
    assert (found["cleaned"], found["by"], found["ratio"]) == (True, "n", main.NOISY - 1)
    for path in paths:
        assert (tmp_path / f"new.{path.name}").read_bytes() == path.read_bytes()
    assert (done == sorted(done), done[-1]) == (True, 1.0)


@pytest.mark.parametrize("clean", [True, False])
def test_others_hear_the_sound_that_was_cleaned_where_it_was(clean: bool, tmp_path: Path) -> None:
    results = {"demux": {"voices": 2}, "separate": {"cleaned": clean}}
    job = SimpleNamespace(
        load=lambda stage, _: results[stage], has=results.__contains__, work=lambda stage, name: f"{stage}/{name}"
    )
    stage = "separate" if clean else "demux"
    found = main.StageJob.sounds(job, SimpleNamespace(id="01"), cleaned=True)
    assert found == [f"{stage}/01.c1.wav", f"{stage}/01.c2.wav"]


def test_filters_are_left_out_where_there_is_little_noise() -> None:
    class Mute(Network):
        def run(self, names: Sequence[str], given: Mapping[str, Any]) -> list[Any]:
            return [value * (name != "coefs") for name, value in zip(names, super().run(names, given), strict=True)]

    sound = np.random.default_rng(1).uniform(-0.5, 0.5, 6400).astype(np.float32)
    for ratio, same in ((deepfilter.NEARLY + 1, True), (deepfilter.NEARLY - 1, False)):
        cleaner = deepfilter.Cleaner({part: Mute(ratio) for part in deepfilter.PARTS}, left=0.0)
        out = np.concatenate(list(cleaner.cleaned([sound])))[: len(sound)]
        assert bool(np.abs(out - sound).max() < 1e-5) is same


def test_a_preset_that_names_a_model_for_voices_has_music_looked_for(tmp_path: Path) -> None:
    """Whoever names the model, the stage that it waits for has its own."""
    config = project.load(ROOT, env={}, home=tmp_path)
    own = replace(config.presets["starter"], models={**config.presets["starter"].models, Purpose.VOCALS: ("demucs",)})
    pins = {**config.pins, "demucs": Pin(revision="r", files=(FilePin(path="f", size=1, sha256="0" * 64),))}
    config = replace(config, presets={**config.presets, "starter": own}, pins=pins)
    config = replace(config, defaults=replace(config.defaults, preset="starter"))
    for mode, has in (("auto", True), ("on", False)):
        request = host.resolve(config, JobOptions(separate=mode))
        assert ({"music", "separate"} <= request.stages(config), Purpose.TAGGING in request.models) == (has, has)


@pytest.mark.parametrize(
    ("mode", "model", "music"),
    [("auto", True, True), ("on", True, False), ("auto", False, False), ("off", True, False)],
)
def test_music_is_looked_for_where_it_decides(mode: str, model: bool, music: bool) -> None:
    """It is heard before the sound is separated, and only where a model for voices waits for it."""
    voices = {Purpose.VOCALS: (CONFIG.models["demucs"], Pin(revision="r", files=()))} if model else {}
    assert tagging(JobOptions(separate=mode), CONFIG, voices) is music
    request = Request(
        workflow=None, variant="slim", preset="starter", models=voices, settings={SEPARATION: {"mode": mode}}
    )
    stages = {stage.name: stage for stage in plan_stages(CONFIG.stages, request, workflow=Workflow.TRANSCRIBE)}
    assert ("music" in stages) is music
    if mode != "off":
        assert stages[SEPARATION].needs == ("demux", "music") if music else ("demux",)
