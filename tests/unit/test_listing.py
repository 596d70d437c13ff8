"""What a list of models says of each."""

from __future__ import annotations

from builder.core.terms import Purpose
from builder.core.weights.listing import ListedModel, list_models
from builder.core.weights.model import FilePin, Model, Pin

PIN = Pin(revision="r", files=tuple(FilePin(path=p, size=1, sha256="0" * 64) for p in "abc"))


def model(id_: str, purpose: Purpose = Purpose.ASR) -> Model:
    return Model(id=id_, purpose=purpose, title=id_, licence="MIT")


def listed(models: dict[str, Model], pins: dict[str, Pin] | None = None, **missing: int) -> dict[str, ListedModel]:
    found = list_models(
        models,
        pins or {},
        missing=missing,
        presets={"fast": {"a", "b"}, "high": {"b"}},
        images={"asr": {Purpose.ASR}, "align": {Purpose.ALIGNMENT, Purpose.VAD}, "none": set()},
    )
    return {entry.model.id: entry for entry in found}


def test_a_model_is_here_when_no_file_of_its_pin_is_missing() -> None:
    """All, some and none of three files; without a pin it is neither present nor begun."""
    models = {id_: model(id_) for id_ in ("whole", "one", "two", "none", "unpinned")}
    pins = {id_: PIN for id_ in models if id_ != "unpinned"}
    entries = listed(models, pins, one=2, two=1, none=3)
    assert {id_: (e.present, e.begun) for id_, e in entries.items()} == {
        "whole": (True, False),
        "one": (False, True),
        "two": (False, True),
        "none": (False, False),
        "unpinned": (False, False),
    }
    assert entries["unpinned"].pin is None
    assert entries["one"].pin is PIN


def test_who_uses_a_model() -> None:
    """Presets that choose it by id; images by its purpose."""
    models = {
        "a": model("a"),
        "b": model("b", Purpose.VAD),
        "c": model("c", Purpose.DIARIZATION),
    }
    entries = listed(models)
    assert {id_: (e.presets, e.images) for id_, e in entries.items()} == {
        "a": (("fast",), ("asr",)),
        "b": (("fast", "high"), ("align",)),
        "c": ((), ()),
    }


def test_the_list_keeps_the_order_of_the_catalogue() -> None:
    """As models.yaml has it, not by name."""
    assert list(listed({"z": model("z"), "a": model("a")})) == ["z", "a"]
