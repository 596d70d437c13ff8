"""HTDemucs as ONNX: the voice of seven seconds of music, by its spectrum and by its samples.

S. Rouard, F. Massa, A. Défossez, Hybrid Transformers for Music Source Separation (ICASSP 2023). Two U-nets, one over
frequencies and one over samples, with a transformer between their halves in which each hears the other. Spectra, their
inverse and the normalisation of both inputs are the caller's (stages/separate/htdemucs.py). Of the sources, which only the
last layers tell apart, the voice's is kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from builder.edges.weights.convert.graph import Graph, State

VOICE = "vocals"
"""The source that is kept."""

OPAQUE = frozenset({("demucs.htdemucs", "HTDemucs"), ("fractions", "Fraction")})
"""Classes that the checkpoint names: its network's, and that of its segment's length."""

SAMPLES = 343_980
"""Of a segment: 7.8 s at 44.1 kHz. The transformer's positions are of this length alone."""

BINS, FRAMES = 2048, 336
"""Of a segment's spectrum: windows of 4096 samples, a quarter apart, without the highest bin."""

LAYERS, HEADS, PERIOD = 4, 8, 10_000.0
"""Layers of each half of a U-net; heads of the transformer's attention; the longest wave of its positions."""

PARTS = 4
"""How many times a frame's attention is asked for: all scores at once would take 231 MB."""

KERNEL, STRIDE, PAD = 8, 4, 2
"""Of the convolutions by which the halves of a U-net get shorter and longer."""

FREQUENCY = 0.2 * 10
"""Weight of what is added for each frequency, and the scale that it was taught with."""

KNOWN: Mapping[str, Any] = {
    **{
        "audio_channels": 2,
        "samplerate": 44_100,
        "nfft": 2 * BINS,
        "cac": True,
        "depth": LAYERS,
        "norm_starts": LAYERS,
    },
    **{"kernel_size": KERNEL, "stride": STRIDE, "context": 1, "context_enc": 0, "freq_emb": 0.2, "emb_scale": 10},
    **{"t_heads": HEADS, "t_emb": "sin", "t_max_period": PERIOD, "t_weight_pos_embed": 1.0, "t_gelu": True},
    **{"t_norm_in": True, "t_norm_first": True, "t_norm_out": True, "t_group_norm": False, "t_cross_first": False},
    **{"t_norm_in_group": False, "t_sparse_self_attn": False, "t_sparse_cross_attn": False, "use_train_segment": True},
}
"""What the checkpoint may say of its network, where the arrays' shapes don't."""


def voice_pieces(checkpoint: Mapping[str, Any]) -> Iterator[bytes]:
    """The ONNX file in pieces, of float32.

    ``spectrum`` [1, 4, 2048, 336], left's real and imaginary part, then right's, and ``sound`` [1, 2, 343980], each less its
    mean and by its deviation, to ``voice_spectrum`` and ``voice_sound`` of the same shapes.

    Args:
        checkpoint: the published file's ``state`` and ``kwargs``.

    Raises:
        KeyError: an array is missing.
        ValueError: it is another network's, or has no voice.
    """
    given = checkpoint["kwargs"]
    for key, value in KNOWN.items():
        if key in given and given[key] != value:
            raise ValueError(f"{key} is {given[key]!r}, not {value!r}")
    net = _Network(checkpoint["state"])
    _separated(net, list(given["sources"]).index(VOICE))
    if net.state:
        raise ValueError(f"nothing is known of {min(net.state)}")
    spectrum, sound = [1, 4, BINS, FRAMES], [1, 2, SAMPLES]
    return net.graph.pieces(
        "htdemucs",
        {"spectrum": spectrum, "sound": sound},
        {"voice_spectrum": spectrum, "voice_sound": sound},
        metadata={"source": json.dumps(VOICE)},
    )


class _Network:
    """The graph, and what of the checkpoint is not in it yet."""

    def __init__(self, state: State) -> None:
        self.state = dict(state)
        self.graph = Graph(self.state)

    def array(self, name: str, *shape: int) -> str:
        """An array of the checkpoint, which is then in the graph, of another shape where one is given."""
        array = _single(self.state.pop(name))
        return self.graph.constant(name, array.reshape(shape) if shape else array)

    def pair(self, name: str, *shape: int) -> list[str]:
        """A layer's weight and bias."""
        return [self.array(f"{name}.weight", *shape), self.array(f"{name}.bias", *shape)]

    def reshaped(self, x: str, *shape: int) -> str:
        return self.graph.add("Reshape", x, self.graph.numbers(f"shape {shape}", shape))

    def turned(self, x: str, *axes: int) -> str:
        return self.graph.add("Transpose", x, perm=axes)

    def grouped(self, x: str, name: str, back: Sequence[int], each: Sequence[int]) -> str:
        """Normalised over all but the first dimension (Wu and He, Group Normalization, 2018, with one group).

        Args:
            back: the shape of ``x``, -1 for what isn't known.
            each: the shape of weight and bias beside it.
        """
        one, zero = (self.graph.numbers(f"one {k}", [k], float32=True) for k in (1, 0))
        flat = self.graph.add("InstanceNormalization", self.reshaped(x, 0, 1, -1), one, zero, epsilon=1e-5)
        weight, bias = self.pair(name, *each)
        return self.graph.add("Add", self.graph.add("Mul", self.reshaped(flat, *back), weight), bias)

    def gated(self, x: str) -> str:
        """Half of the channels, each as far as one of the other half lets it through (Dauphin et al., 2017)."""
        value, gate = self.graph.node("Split", [x], [self.graph.fresh(), self.graph.fresh()], axis=1)
        return self.graph.add("Mul", value, self.graph.add("Sigmoid", gate))

    def linear(self, x: str, name: str) -> str:
        """[…, a] to […, b]."""
        weight = self.graph.constant(f"{name}.weight", _single(self.state.pop(f"{name}.weight").T))
        return self.graph.add("Add", self.graph.add("MatMul", x, weight), self.array(f"{name}.bias"))

    def normalised(self, x: str, name: str) -> str:
        """Over the last dimension (Ba et al., Layer Normalization, 2016)."""
        return self.graph.add("LayerNormalization", x, *self.pair(name), axis=-1, epsilon=1e-5)


def _separated(net: _Network, source: int) -> None:
    """The whole network; its outputs have the one source that is kept."""
    add = net.graph.add
    x, sound = "spectrum", "sound"
    kept: list[tuple[str, str]] = []
    lengths = [SAMPLES]
    for layer in range(LAYERS):
        sound = _narrowed(net, sound, f"tencoder.{layer}", lengths[-1])
        x = _narrowed(net, x, f"encoder.{layer}")
        lengths.append(math.ceil(lengths[-1] / STRIDE))
        if layer == 0:
            frequencies = net.state.pop("freq_emb.embedding.weight").astype("float64") * FREQUENCY
            frequencies = _single(frequencies.T[None, :, :, None])
            x = add("Add", x, net.graph.constant("frequencies", frequencies))
        kept.append((x, sound))
    x, sound = _crossed(net, x, sound)
    for layer in range(LAYERS):
        before, before_sound = kept.pop()
        last = layer == LAYERS - 1
        lengths.pop()
        x = _widened(net, add("Add", x, before), f"decoder.{layer}", 4 * source if last else None)
        sound = _widened(
            net, add("Add", sound, before_sound), f"tdecoder.{layer}", 2 * source if last else None, lengths[-1]
        )
    add("Identity", x, output="voice_spectrum")
    add("Identity", sound, output="voice_sound")


def _narrowed(net: _Network, x: str, name: str, length: int | None = None) -> str:
    """A layer of a U-net's first half: a quarter of the frequencies, or of the samples where there is a ``length``."""
    add = net.graph.add
    if length is None:
        x = add("Conv", x, *net.pair(f"{name}.conv"), strides=[STRIDE, 1], pads=[PAD, 0, PAD, 0])
    else:
        x = add("Conv", x, *net.pair(f"{name}.conv"), strides=[STRIDE], pads=[PAD, PAD + -length % STRIDE])
    x = _residual(net, net.graph.gelu(x), f"{name}.dconv", frequencies=length is None)
    return net.gated(add("Conv", x, *net.pair(f"{name}.rewrite")))


def _widened(net: _Network, x: str, name: str, first: int | None, length: int | None = None) -> str:
    """A layer of a U-net's second half: four times the frequencies, or ``length`` samples.

    Args:
        first: of the last layer, the first channel of the source that is kept.
    """
    add = net.graph.add
    axes = 1 if length is not None else 2
    x = net.gated(add("Conv", x, *net.pair(f"{name}.rewrite"), pads=[1] * 2 * axes))
    if f"{name}.dconv.layers.0.0.weight" in net.state:
        x = _residual(net, x, f"{name}.dconv", frequencies=length is None)
    strides, pads = [STRIDE, 1], [PAD, 0, PAD, 0]
    if length is not None:
        strides, pads = [STRIDE], [PAD, (math.ceil(length / STRIDE) - 1) * STRIDE + KERNEL - PAD - length]
    if first is not None:
        own = slice(first, first + 2 * axes)
        weight, bias = (f"{name}.conv_tr.{part}" for part in ("weight", "bias"))
        net.state |= {weight: net.state[weight][:, own], bias: net.state[bias][own]}
    x = add("ConvTranspose", x, *net.pair(f"{name}.conv_tr"), strides=strides, pads=pads)
    return x if first is not None else net.graph.gelu(x)


def _residual(net: _Network, x: str, name: str, *, frequencies: bool) -> str:
    """What is heard over time, twice, the second time with every other frame; each frequency on its own."""
    add = net.graph.add
    if frequencies:
        channels = len(net.state[f"{name}.layers.0.6.scale"])
        x = net.reshaped(net.turned(x, 0, 2, 1, 3), -1, channels, FRAMES)
    for layer in range(2):
        at, wide = f"{name}.layers.{layer}", 2**layer
        y = add("Conv", x, *net.pair(f"{at}.0"), dilations=[wide], pads=[wide, wide])
        y = net.graph.gelu(_grouped_channels(net, y, f"{at}.1"))
        y = net.gated(_grouped_channels(net, add("Conv", y, *net.pair(f"{at}.3")), f"{at}.4"))
        x = add("Add", x, add("Mul", y, net.array(f"{at}.6.scale", -1, 1)))
    if frequencies:
        x = net.turned(net.reshaped(x, 1, -1, channels, FRAMES), 0, 2, 1, 3)
    return x


def _grouped_channels(net: _Network, x: str, name: str) -> str:
    channels = len(net.state[f"{name}.weight"])
    return net.grouped(x, name, (0, channels, -1), (channels, 1))


def _crossed(net: _Network, x: str, sound: str) -> tuple[str, str]:
    """The transformer between the halves: in every other layer each branch hears the other."""
    add, at = net.graph.add, "crosstransformer"
    narrow, wide = (len(net.state[f"channel_{way}.bias"]) for way in ("downsampler", "upsampler"))
    rows = BINS // STRIDE**LAYERS
    x = add("Conv", net.reshaped(x, 1, narrow, -1), *net.pair("channel_upsampler"))
    x = net.reshaped(net.turned(net.reshaped(x, 1, wide, rows, FRAMES), 0, 3, 2, 1), 1, -1, wide)
    sound = net.turned(add("Conv", sound, *net.pair("channel_upsampler_t")), 0, 2, 1)
    x = add("Add", net.normalised(x, f"{at}.norm_in"), _places(net, rows, wide))
    sound = add("Add", net.normalised(sound, f"{at}.norm_in_t"), _moments(net, wide))
    layer = 0
    while f"{at}.layers.{layer}.linear1.weight" in net.state:
        own, theirs = f"{at}.layers.{layer}", f"{at}.layers_t.{layer}"
        if layer % 2:
            x, sound = _layer(net, x, own, sound), _layer(net, sound, theirs, x)
        else:
            x, sound = _layer(net, x, own), _layer(net, sound, theirs)
        layer += 1
    x = net.reshaped(net.turned(net.reshaped(x, 1, FRAMES, rows, wide), 0, 3, 2, 1), 1, wide, -1)
    x = net.reshaped(add("Conv", x, *net.pair("channel_downsampler")), 1, narrow, rows, FRAMES)
    return x, add("Conv", net.turned(sound, 0, 2, 1), *net.pair("channel_downsampler_t"))


def _layer(net: _Network, x: str, name: str, other: str | None = None) -> str:
    """One layer of the transformer (Vaswani et al., 2017), normalised first, each step scaled (Touvron et al., 2021).

    Args:
        other: what is heard; None: ``x`` itself.
    """
    add = net.graph.add
    asked = net.normalised(x, f"{name}.norm1")
    heard, norm, attention = asked, "norm2", "self_attn"
    if other is not None:
        heard, norm, attention = net.normalised(other, f"{name}.norm2"), "norm3", "cross_attn"
    attended = _attention(net, asked, heard, f"{name}.{attention}")
    x = add("Add", x, add("Mul", attended, net.array(f"{name}.gamma_1.scale")))
    fed = net.graph.gelu(net.linear(net.normalised(x, f"{name}.{norm}"), f"{name}.linear1"))
    x = add("Add", x, add("Mul", net.linear(fed, f"{name}.linear2"), net.array(f"{name}.gamma_2.scale")))
    width = len(net.state[f"{name}.norm_out.weight"])
    return net.grouped(x, f"{name}.norm_out", (1, -1, width), (width,))


def _attention(net: _Network, asked: str, heard: str, name: str) -> str:
    add = net.graph.add
    weight, bias = (net.state.pop(f"{name}.in_proj_{part}") for part in ("weight", "bias"))
    width = weight.shape[1]
    for k, part in enumerate("qkv"):
        own = slice(k * width, (k + 1) * width)
        net.state |= {f"{name}.{part}.weight": weight[own], f"{name}.{part}.bias": bias[own]}

    def split(x: str, part: str, *axes: int) -> str:
        return net.turned(net.reshaped(net.linear(x, f"{name}.{part}"), 0, -1, HEADS, width // HEADS), *axes)

    keys, values = split(heard, "k", 0, 2, 3, 1), split(heard, "v", 0, 2, 1, 3)
    scaled = add("Mul", split(asked, "q", 0, 2, 1, 3), net.graph.number((width / HEADS) ** -0.5))
    parts = net.graph.node("Split", [scaled], [net.graph.fresh() for _ in range(PARTS)], axis=2)
    found = [add("MatMul", add("Softmax", add("MatMul", part, keys), axis=-1), values) for part in parts]
    joined = net.reshaped(net.turned(add("Concat", *found, axis=2), 0, 2, 1, 3), 0, -1, width)
    return net.linear(joined, f"{name}.out_proj")


def _places(net: _Network, rows: int, width: int) -> str:
    """Where each of the spectrum's columns and rows is, as waves [1, columns * rows, width]: a half for each, in turn."""
    import numpy as np

    add, half = net.graph.add, width // 2
    speeds = np.array([math.exp(-math.log(PERIOD) * k / half) for k in range(0, half, 2)])
    found = []
    for name, count, shape in (("columns", FRAMES, (FRAMES, 1, half)), ("rows", rows, (1, rows, half))):
        phases = net.graph.constant(f"{name} phases", _single(np.arange(count)[:, None] * speeds))
        waves = [net.reshaped(add(wave, phases), count, -1, 1) for wave in ("Sin", "Cos")]
        one = net.reshaped(add("Concat", *waves, axis=2), *shape)
        found.append(add("Expand", one, net.graph.numbers("places", (FRAMES, rows, half))))
    return net.reshaped(add("Concat", *found, axis=2), 1, -1, width)


def _moments(net: _Network, width: int) -> str:
    """Where each of the sound's frames is, as waves [1, frames, width]: cosines, then sines."""
    import numpy as np

    half = width // 2
    lengths = np.array([PERIOD ** (k / (half - 1)) for k in range(half)])
    count = math.ceil(SAMPLES / STRIDE**LAYERS)
    phases = net.graph.constant("moments", _single(np.arange(count)[:, None] / lengths))
    waves = [net.graph.add(wave, phases) for wave in ("Cos", "Sin")]
    return net.reshaped(net.graph.add("Concat", *waves, axis=1), 1, -1, width)


def _single(array: Any) -> Any:
    return array.astype("float32")
