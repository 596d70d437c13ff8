"""Whisper on Apple silicon: what is chosen and asked, against a module that stands in for mlx-whisper on other machines."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from builder.core.config import selection
from builder.core.terms import Purpose, Variant
from builder.edges.machine import project
from builder.errors import UsageError
from tests.conftest import stage_module

mlxwhisper = stage_module("asr", "mlxwhisper")
hearing = stage_module("asr", "hearing")

CONFIG = project.load(Path(__file__).resolve().parents[2], env={})
UNPINNED = replace(CONFIG, pins={id_: pin for id_, pin in CONFIG.pins.items() if id_ != "mlx-whisper-turbo"})


def chosen(config: Any = CONFIG, *, apple: bool, models: tuple[str, ...] = (), variant: Variant = Variant.SLIM) -> str:
    asked = selection.choose(
        config, preset="starter", variant=variant, stages=list(config.stages), models=models, apple=apple
    )
    return asked[Purpose.ASR].id


def test_apple_silicon_takes_the_pinned_twin_of_a_preset_s_model() -> None:
    """Elsewhere, without a pin, in the full variant, and where somebody names a model, nothing changes."""
    turbo = {**CONFIG.presets["starter"].models, Purpose.ASR: ("turbo",)}
    config = replace(CONFIG, presets={"starter": replace(CONFIG.presets["starter"], models=turbo)})
    assert chosen(config, apple=True) == "mlx-whisper-turbo"
    assert chosen(config, apple=False) == "turbo"
    assert chosen(config, apple=True, models=("turbo",)) == "turbo"
    assert chosen(config, apple=True, variant=Variant.FULL) == "turbo"
    assert chosen(replace(config, pins=UNPINNED.pins), apple=True) == "turbo"
    assert chosen(apple=True) == "base", "it has no twin"


def test_elsewhere_it_is_refused() -> None:
    """Before anything is fetched, and with what does the same here."""
    assert chosen(apple=True, models=("mlx-whisper-turbo",)) == "mlx-whisper-turbo"
    with pytest.raises(UsageError, match="for native jobs on Apple silicon") as caught:
        chosen(apple=False, models=("mlx-whisper-turbo",))
    assert caught.value.hint == "--models turbo"


def test_its_lock_is_for_apple_silicon_alone() -> None:
    """No other machine's environment grows by it, or is made again when it changes."""
    lock = CONFIG.shipped / "stages/asr/requirements-slim-mlx.txt"
    assert lock in CONFIG.native_locks(apple=True)
    assert lock not in CONFIG.native_locks()
    assert "torch" not in lock.read_text()


@pytest.mark.parametrize(
    ("config", "files", "known"),
    [
        ({"n_audio_state": 384}, ["weights.safetensors"], True),
        ({"n_audio_state": 384}, ["weights.npz"], True),
        ({"n_audio_state": 384}, ["model.bin"], False),
        ({"alignment_heads": []}, ["weights.npz"], False),
        ([], ["weights.npz"], False),
        (None, ["weights.npz"], False),
    ],
)
def test_what_a_folder_holds(tmp_path: Path, config: Any, files: list[str], known: bool) -> None:
    """MLX's layout; CTranslate2's and ONNX's are others'."""
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    for name in files:
        (tmp_path / name).touch()
    assert mlxwhisper.kind(tmp_path) is known


@dataclass
class Options:
    """mlx-whisper's DecodingOptions, as far as they are set."""

    task: str
    language: str
    temperature: float
    best_of: int | None
    prompt: list[str] | None
    without_timestamps: bool
    fp16: bool


class Whisper:
    """mlx-whisper's model, with as many numbers as a test can read."""

    is_multilingual, num_languages, alignment_heads = True, 2, "heads"
    dims = SimpleNamespace(n_mels=80, n_text_ctx=448)
    encoder = SimpleNamespace(conv1=SimpleNamespace(weight=np.zeros(1, np.float32)))

    def __init__(self) -> None:
        self.asked: list[Options] = []

    def embed_audio(self, mels: Any) -> Any:
        assert mels.shape[1:] == (3000, 80)
        return mels[:, :4, :2]

    def detect_language(self, states: Any, tokenizer: Any) -> Any:
        return None, [{"en": 0.25, "de": 0.75} for _ in states]

    def decode(self, states: Any, options: Options) -> Any:
        self.asked.append(options)
        nothing = SimpleNamespace(tokens=[], avg_logprob=float("nan"), no_speech_prob=0.5)
        return [SimpleNamespace(tokens=[1, 2], avg_logprob=-0.5, no_speech_prob=0.1), nothing][: len(states)]

    def decoder(self, tokens: Any, states: Any) -> Any:
        return "logits", "cache", ("attention", tokens, states.shape)


def timed(segments: list[dict[str, Any]], model: Any, mel: Any, num_frames: int, **others: Any) -> None:
    """mlx-whisper's add_word_timestamps: it is given an encoding in the place of a spectrogram."""
    assert model.forward_with_cross_qk(mel, "text") == ("logits", ("attention", "text", (4, 2)))
    assert (model.alignment_heads, others["last_speech_timestamp"]) == ("heads", 0.0)
    segments[0]["words"] = [{"word": " a", "start": 0.0, "end": num_frames / 100, "probability": 0.5}]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Whisper:
    """The module that stands in."""
    whisper = Whisper()
    core = {name: getattr(np, name) for name in ("stack", "array", "float16", "float32")}
    core |= {"eval": lambda *_: None, "random": SimpleNamespace(seed=lambda _: None), "gpu": "gpu"}
    core |= {"default_device": lambda: "cpu", "Device": lambda kind, _: kind}
    contents: dict[str, dict[str, Any]] = {
        "huggingface_hub": {},
        "mlx": {},
        "mlx.core": core,
        "mlx_whisper": {},
        "mlx_whisper.audio": {"log_mel_spectrogram": lambda sound, n_mels: np.zeros((len(sound) // 160, n_mels))},
        "mlx_whisper.decoding": {"DecodingOptions": Options},
        "mlx_whisper.load_models": {"load_model": lambda path, dtype: whisper},
        "mlx_whisper.timing": {"add_word_timestamps": timed},
        "mlx_whisper.tokenizer": {
            "LANGUAGES": {"en": "english", "de": "german", "xx": "unknown to this model"},
            "get_tokenizer": lambda many, **_: SimpleNamespace(encode=lambda text, **_: text.split()),
        },
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules["mlx"], "core", sys.modules["mlx.core"], raising=False)
    return whisper


def job(notes: list[str], **settings: Any) -> Any:
    return SimpleNamespace(
        timed=lambda _: nullcontext(),
        settings={"beam_size": 5, "task": "transcribe", "hotwords": "Ada", **settings},
        uses={"asr": {"id": "m"}},
        inputs=["in"],
        note=lambda _, text: notes.append(text),
    )


def test_windows_are_heard_as_by_the_slim_backend(library: Whisper) -> None:
    """Encoded once for language, text and word times; prompts and tasks go to the library's own options."""
    notes: list[str] = []
    asked = job(notes)
    model = mlxwhisper.load(asked, Path("folder"))
    assert (model.supported_languages, model.half, model.model.is_multilingual) == (("en", "de"), False, True)
    mlxwhisper.look(asked, model)
    assert notes == ["model m has no beam search: beam_size says nothing to it"]
    encoded = mlxwhisper.encode(model, [np.zeros(32000, np.float32), np.zeros(16000, np.float32)])
    assert encoded.lengths == [2.0, 1.0]
    assert mlxwhisper.languages(model, encoded) == [{"en": 0.25, "de": 0.75}] * 2
    first, second = mlxwhisper.hear(asked, model, encoded, "de")
    assert first.words == [{"word": " a", "start": 0.0, "end": 2.0, "probability": 0.5}]
    assert (first.likelihood, first.silence) == (-0.5, 0.1)
    assert (second.words, second.likelihood) == ([], 0.0)
    one = mlxwhisper.part(model, encoded, [1])
    assert (one.lengths, one.states.shape) == ([1.0], (1, 4, 2))
    mlxwhisper.hear(asked, model, one, "de", temperature=0.4, prompt=False, doing="translate")
    assert [(o.task, o.temperature, o.best_of, o.prompt, o.without_timestamps) for o in library.asked] == [
        ("transcribe", 0.0, None, ["Ada"], True),
        ("translate", 0.4, 5, None, True),
    ]


def test_a_glossary_s_terms_are_in_the_prompt_as_many_as_it_has_room_for(library: Whisper) -> None:
    notes: list[str] = []
    asked = job(notes)
    model = mlxwhisper.load(asked, Path("folder"))
    terms = tuple(hearing.Term(text=f"Name{k}", translate={}) for k in range(300))
    ear = hearing.Ear(job=asked, backend=mlxwhisper, model=model, terms=terms)
    ear.hear(mlxwhisper.encode(model, [np.zeros(32000, np.float32)]), ["en"])
    told = library.asked[0].prompt
    assert told is not None
    assert (told[:2], told[-1], len(told)) == (["Ada", "Name0,"], "Name221", 223)
    assert notes == [
        "the model has room for 222 of the glossary's 300 terms: the first ones, and where something sounds like "
        "another, that one"
    ]
    model.whisper.dims = SimpleNamespace(n_text_ctx=8)
    assert model.prompt("a b c d") == ["a", "b", "c"]


def test_without_the_library_the_stage_says_for_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx", None)
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    with pytest.raises(RuntimeError, match="native jobs on Apple silicon"):
        mlxwhisper.load(job([]), Path("folder"))
