"""Many channels to one: nothing that is said on any of them is lost; what is too quiet or too loud fits 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import stage_module

mix = stage_module("demux", "mix")

RATE = 16_000


def voice(seconds: float, *, level: float = 0.1, seed: int = 1) -> Any:
    """Something that sounds: float32 [n]."""
    return (np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * level).astype(np.float32)


def mixed(channels: list[Any], names: list[str] | None = None) -> tuple[Any, Any]:
    """The mix of channels, block by block, and the mixer."""
    sound = np.stack(channels, axis=1)
    mixer = mix.Mixer(names=names or ["?"] * sound.shape[1])
    return np.concatenate([mixer.mix(sound[k : k + mix.BLOCK]) for k in range(0, len(sound), mix.BLOCK)]), mixer


def level(sound: Any) -> float:
    return float(np.sqrt((sound * sound).mean()))


@pytest.mark.parametrize("other", [-1.0, -0.89, -1.1, -0.5, -0.2, -0.1])
def test_channels_that_cancel_are_heard(other: float) -> None:
    """C01: an unbalanced cable makes a sum of silence. The level stays within 6 dB, and a note says so."""
    speech = voice(4)
    sound, mixer = mixed([speech, speech * other])
    assert 0.5 <= level(sound) / level(speech) < 2
    assert mixer.notes() == ["its channels cancel each other for 4.0 s: there the loudest one is heard alone"]


def test_channels_that_cancel_for_a_while_are_heard_there() -> None:
    """From the middle on, and back again."""
    speech = voice(6)
    sign = np.ones(6 * RATE, np.float32)
    sign[2 * RATE : 4 * RATE] = -1
    sound, mixer = mixed([speech, speech * sign])
    for second in range(6):
        part = slice(second * RATE, (second + 1) * RATE)
        assert 0.5 < level(sound[part]) / level(speech[part]) < 2
    assert mixer.saved == 2 * RATE


def test_the_mean_of_channels_that_agree() -> None:
    speech = voice(2)
    sound, mixer = mixed([speech, speech])
    assert np.allclose(sound, speech, atol=1e-6)
    assert mixer.notes() == []
    assert mixer.same


@pytest.mark.parametrize("count", [3, 8, 24])
@pytest.mark.parametrize("place", [0, -1])
def test_one_microphone_of_many_is_heard(count: int, place: int) -> None:
    """A mean would have a 24th of it."""
    channels = [np.zeros(2 * RATE, np.float32)] * count
    channels[place] = voice(2)
    sound, _ = mixed(channels)
    assert level(sound) > 0.45 * level(channels[place])


def test_speech_in_the_centre_and_speech_elsewhere() -> None:
    """A film has its dialogue in the centre; a conference recorder calls any six channels 5.1."""
    names = ["FL", "FR", "FC", "LFE", "BL", "BR"]
    for place in (0, 2, 4, 5):
        channels = [np.zeros(2 * RATE, np.float32)] * 6
        channels[place] = voice(2)
        sound, _ = mixed(channels, names)
        assert level(sound) > 0.35 * level(channels[place])


def test_two_parties_on_two_channels_are_told() -> None:
    """C15: taking turns, or at once; hum and one silent channel are no second party."""
    first, second = voice(4, seed=1), voice(4, seed=2)
    turns = np.arange(4 * RATE) // RATE % 2 == 0
    _, mixer = mixed([first * turns, second * ~turns])
    assert mixer.differ
    _, mixer = mixed([first, second])
    assert mixer.differ
    for other in (np.zeros_like(first), first, -first, 0.3 * first):
        _, mixer = mixed([first, other])
        assert not mixer.differ


def test_channels_may_change_in_the_middle() -> None:
    """A broadcast goes from stereo to mono and to surround; before decoding there may be no channels at all."""
    mixer = mix.Mixer(names=[])
    for count in (2, 1, 6, 2):
        block = np.stack([voice(0.1)] * count, axis=1)
        assert np.allclose(mixer.mix(block)[mix.FADE :], block[mix.FADE :, 0], atol=1e-6)


@given(st.integers(1, 5), st.integers(0, 3), st.floats(0, 1))
def test_a_mix_has_as_many_samples_and_is_never_louder_than_all_channels(count: int, seed: int, share: float) -> None:
    channels = [voice(0.35, level=share, seed=seed + k) for k in range(count)]
    sound, _ = mixed(channels)
    assert sound.shape == channels[0].shape
    assert np.abs(sound).max(initial=0) <= np.abs(np.stack(channels)).max(initial=0) * 1.001 + 1e-9


def adjusted(sound: Any) -> tuple[Any, str]:
    loudness = mix.Loudness()
    for k in range(0, len(sound), 5000):
        loudness.hear(sound[k : k + 5000])
    change = loudness.adjustment()
    if change is None:
        return sound, ""
    return (sound - change[0]) * change[1], change[2]


@pytest.mark.parametrize("decibels", [-60, -75, -81, -100])
def test_a_faint_recording_is_raised_before_it_has_16_bits(decibels: int) -> None:
    """C20: 24-bit sound at -81 dBFS has one bit left of 16."""
    sound, note = adjusted(voice(5, level=1.0) * np.float32(10 ** (decibels / 20)))
    assert level(sound) > 10 ** (-45 / 20)
    assert "very quiet: raised by" in note


def test_what_fits_stays_as_it_is() -> None:
    assert adjusted(voice(5))[1] == ""
    assert adjusted(np.zeros(5 * RATE, np.float32))[1] == ""


def test_a_bump_in_a_faint_recording_is_no_speech() -> None:
    """Somebody touches the microphone once."""
    sound = voice(60, level=0.0005)
    sound[RATE : RATE + 3000] = 0.9
    assert "very quiet" in adjusted(sound)[1]


def test_beyond_full_scale_and_off_centre() -> None:
    """Float formats go beyond 1.0; a bad sound card has a constant offset."""
    sound, note = adjusted(voice(5, level=1.0))
    assert np.abs(sound).max() <= 1
    assert "lowered" in note
    sound, note = adjusted(voice(5, level=0.05) + np.float32(0.3))
    assert abs(sound.mean()) < 0.01
    assert "offset" in note


@given(st.lists(st.floats(-4, 4, width=32), max_size=50))
def test_samples_are_rounded_and_never_wrap(values: list[float]) -> None:
    """Two's complement turns 1.01 into -1 where nobody clips."""
    sound = np.array(values, dtype=np.float32)
    back = np.frombuffer(mix.pcm(sound), "<i2") / 32768
    assert np.abs(back - np.clip(sound, -1, 32767 / 32768)).max(initial=0) <= 0.5 / 32768 + 1e-6


def test_speech_is_livelier_than_hum_noise_and_silence() -> None:
    """C02: which of two tracks has the speech."""
    chance = np.random.default_rng(4)
    speech = np.where(np.arange(600) // 4 % 3 == 0, -60.0, -20.0 + chance.standard_normal(600) * 5)
    for other in (np.full(600, -10.0), np.full(600, -120.0), -30 + chance.standard_normal(600)):
        assert mix.liveliness(speech) > 4 * mix.liveliness(other)
    assert mix.liveliness([]) == 0


@pytest.mark.parametrize(
    ("tag", "language", "same"),
    [
        ("ger", "de", True),
        ("deu", "de", True),
        ("de-AT", "de", True),
        ("de", "deu", True),
        ("nl", "de", False),
        ("", "de", False),
        ("qaa", "qaa", True),
    ],
)
def test_a_track_s_language_has_many_codes(tag: str, language: str, same: bool) -> None:
    """C02: containers and people use different ones."""
    assert stage_module("demux", "tracks").speaks(tag, language) is same
