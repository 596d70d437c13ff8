"""HTDemucs: its conversion, and what the stage does around the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from builder.edges.weights.convert import demucs
from tests.conftest import stage_module

htdemucs = stage_module("separate", "htdemucs")


class Network:
    """Its voice is all that it hears, half from the spectrum and half from the samples."""

    def run(self, names: Any, given: Any) -> list[Any]:
        assert [given[name].shape for name in htdemucs.INPUTS] == [(1, 4, 2048, 336), (1, 2, 343_980)]
        return [given[name] / 2 for name in htdemucs.INPUTS]


def tone(count: int) -> Any:
    """What a change of the rate and a segment's normalisation leave as it is."""
    place = np.arange(count)
    return (0.3 * np.sin(place * 0.05) + 0.1 * np.sin(place * 0.7)).astype(np.float32)


@pytest.mark.parametrize("count", [1, htdemucs.STRIDE, htdemucs.SEGMENT + 1, 300_000])
def test_what_the_network_takes_for_voice_comes_out_as_it_was(count: int) -> None:
    """Sample by sample, whatever the length, with no seam between segments."""
    sound = tone(count)
    blocks = (sound[k : k + 70_000] for k in range(0, count, 70_000))
    found = np.concatenate(list(htdemucs.Separator(Network()).cleaned(blocks)))
    assert found.shape == sound.shape
    inner = slice(400, -400) if count > 2000 else slice(0)
    assert np.abs(found - sound)[inner].max(initial=0.0) < 2e-3


def test_segments_hold_what_is_around_them_and_all_of_the_sound() -> None:
    sound = np.arange(1, 200_001, dtype=np.float32)
    found = list(htdemucs.segments([sound[:7], sound[7:150_000], sound[150_000:]]))
    assert [len(around) for around, _ in found] == [htdemucs.SEGMENT + 2 * htdemucs.MARGIN] * len(found)
    starts = [around[htdemucs.MARGIN] for around, _ in found]
    assert starts == [1 + k * htdemucs.STRIDE for k in range(len(found))]
    assert list(htdemucs.segments([])) == []


def test_a_spectrum_is_turned_back() -> None:
    sound = np.stack([htdemucs.resampled(tone(124_800), 343_980)] * 2)
    separator = htdemucs.Separator(Network())
    found = separator.heard(separator.spectrum(sound))
    assert np.abs(found - sound)[:, 4096:-4096].max() < 1e-4


@pytest.mark.parametrize(("key", "value"), [("nfft", 2048), ("t_cross_first", True), ("samplerate", 48_000)])
def test_another_network_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        demucs.voice_pieces({"kwargs": {"sources": ["vocals"], key: value}, "state": {}})


def test_a_checkpoint_without_a_voice_or_without_arrays_is_refused() -> None:
    with pytest.raises(ValueError, match="vocals"):
        demucs.voice_pieces({"kwargs": {"sources": ["drums"]}, "state": {}})
    with pytest.raises(KeyError):
        demucs.voice_pieces({"kwargs": {"sources": ["vocals"]}, "state": {}})


def state(channels: int = 16, wide: int = 32) -> dict[str, Any]:
    """Random weights under upstream's names, in half precision as published, of a network with few channels and two sources."""
    random = np.random.default_rng(1)
    found: dict[str, Any] = {"freq_emb.embedding.weight": random.standard_normal((512, channels))}

    def layer(name: str, *shape: int, out: int | None = None) -> None:
        found[f"{name}.weight"] = random.standard_normal(shape) * 0.1
        found[f"{name}.bias"] = random.standard_normal(shape[0] if out is None else out) * 0.1

    def half(name: str, at: int, width: int, kernel: tuple[int, ...], ends: tuple[int, int], *, first: bool) -> None:
        for k in range(2):
            inner = f"{name}.{at}.dconv.layers.{k}"
            layer(f"{inner}.0", width // 8, width, 3)
            layer(f"{inner}.1", width // 8)
            layer(f"{inner}.3", 2 * width, width // 8, 1)
            layer(f"{inner}.4", 2 * width)
            found[f"{inner}.6.scale"] = np.ones(width)
        size = (*(1 if first else 3 for _ in kernel),)
        layer(f"{name}.{at}.rewrite", 2 * width, width, *size)
        conv = "conv" if first else "conv_tr"
        layer(f"{name}.{at}.{conv}", *ends, *kernel, out=ends[0] if first else ends[1])

    for at in range(demucs.LAYERS):
        width, before = channels * 2**at, channels * 2 ** (at - 1)
        back = demucs.LAYERS - 1 - at
        half("encoder", at, width, (8, 1), (width, before if at else 4), first=True)
        half("tencoder", at, width, (8,), (width, before if at else 2), first=True)
        half("decoder", back, width, (8, 1), (width, before if at else 8), first=False)
        half("tdecoder", back, width, (8,), (width, before if at else 4), first=False)
    narrow = channels * 2 ** (demucs.LAYERS - 1)
    for end in ("", "_t"):
        layer(f"channel_upsampler{end}", wide, narrow, 1)
        layer(f"channel_downsampler{end}", narrow, wide, 1)
        layer(f"crosstransformer.norm_in{end}", wide)
        for k in range(3):
            at_, attention = f"crosstransformer.layers{end}.{k}", ("self_attn", "cross_attn")[k % 2]
            for norm in ("norm1", "norm2", "norm_out", *(["norm3"] if k % 2 else [])):
                layer(f"{at_}.{norm}", wide)
            found[f"{at_}.{attention}.in_proj_weight"] = random.standard_normal((3 * wide, wide))
            found[f"{at_}.{attention}.in_proj_bias"] = random.standard_normal(3 * wide)
            layer(f"{at_}.{attention}.out_proj", wide, wide)
            layer(f"{at_}.linear1", 4 * wide, wide)
            layer(f"{at_}.linear2", wide, 4 * wide)
            found |= {f"{at_}.gamma_{n}.scale": np.ones(wide) for n in (1, 2)}
    return {name: array.astype(np.float16) for name, array in found.items()}


def test_the_graph_has_all_arrays_and_fits_together() -> None:
    """Every shape follows from the inputs'; the same checkpoint makes the same bytes. What is left over is named."""
    import onnx

    checkpoint = {"kwargs": {"sources": ["drums", "vocals"]}, "state": state()}
    data = b"".join(demucs.voice_pieces(checkpoint))
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    known = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
    ends = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}
    assert known[ends["voice_spectrum"]] == [1, 4, 2048, 336]
    assert known[ends["voice_sound"]] == [1, 2, 343_980]
    own = next(a for a in model.graph.initializer if a.name == "tdecoder.3.conv_tr.bias")
    assert onnx.numpy_helper.to_array(own).tolist() == checkpoint["state"]["tdecoder.3.conv_tr.bias"][2:].tolist()
    assert b"".join(demucs.voice_pieces(checkpoint)) == data
    with pytest.raises(ValueError, match="nothing is known of another"):
        demucs.voice_pieces({**checkpoint, "state": {**state(), "another.weight": np.zeros(1)}})
