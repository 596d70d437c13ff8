"""Groups of models: what ``models fetch --for`` takes, and why it leaves out the rest."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from builder.core.terms import Purpose, Variant
from builder.core.weights import groups
from builder.core.weights.model import FilePin, Model, Pin
from builder.errors import UsageError

PIN = Pin(revision="v", files=(FilePin(path="f", size=1, sha256="0" * 64),))


def model(id_: str, purpose: Purpose, *, engine: str = "", languages: str = "", full: bool = False) -> Model:
    variants = (Variant.FULL,) if full else (Variant.SLIM, Variant.FULL)
    spoken = tuple(languages.split())
    return Model(id=id_, purpose=purpose, title="", licence="MIT", engine=engine, languages=spoken, variants=variants)


MODELS = MappingProxyType(
    {
        m.id: m
        for m in (
            model("base", Purpose.ASR),
            model("apple", Purpose.ASR, engine="mlx"),
            model("silero", Purpose.VAD),
            model("campplus", Purpose.EMBEDDING),
            model("pieces", Purpose.SEGMENTATION),
            model("german", Purpose.ALIGNMENT, languages="de"),
            model("french", Purpose.ALIGNMENT, languages="fr", full=True),
            model("nobody", Purpose.ALIGNMENT, languages="de"),
        )
    }
)
PINS = {id_: PIN for id_ in MODELS if id_ != "nobody"}


def chosen(*names: str, languages: tuple[str, ...] = (), apple: bool = False) -> tuple[list[str], dict[str, str]]:
    found, left = groups.select(MODELS, PINS, names=names, variant=Variant.SLIM, languages=languages, apple=apple)
    return [m.id for m, _ in found], {one.model: one.why.split(" (")[0].split(":")[0] for one in left}


def test_a_group_has_what_a_step_can_load() -> None:
    """Whatever else is in the catalogue isn't spoken of."""
    assert chosen("diarization") == (["campplus", "pieces"], {})
    assert chosen("speech", "mlx") == (["base", "apple", "silero"], {})
    assert chosen("alignment") == (["german"], {"french": "for the full variant", "nobody": "not pinned"})


def test_all_says_what_it_leaves_out() -> None:
    """Both variants' models are fetched; those of another platform aren't."""
    found, left = chosen()
    assert found == ["base", "silero", "campplus", "pieces", "german", "french"]
    assert left == {"apple": "for Apple silicon", "nobody": "not pinned"}
    assert "apple" in chosen(apple=True)[0]


def test_languages_narrow_a_group() -> None:
    """A model for any language stays."""
    assert chosen("alignment", "speech", languages=("fr",))[0] == ["base", "silero"]
    assert chosen("alignment", languages=("de",))[0] == ["german"]


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(UsageError, match='no group "alignmnt"') as caught:
        chosen("alignmnt")
    assert caught.value.expected == "speech, mlx, diarization, alignment"
    assert caught.value.hint == 'did you mean "alignment"?'
