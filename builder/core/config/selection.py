"""Which models a plan carries: a preset, changed by what was asked for, and nothing that no stage would load."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence, Set

from builder.core import languages
from builder.core.config.types import Config
from builder.core.terms import Purpose, Variant
from builder.core.weights.model import INT8, MLX, Model, Pin
from builder.errors import MissingError, UsageError, did_you_mean

OPTIONAL = frozenset(
    {Purpose.ALIGNMENT, Purpose.DIARIZATION, Purpose.SEGMENTATION, Purpose.TRANSLATION, Purpose.VOCALS}
)
"""Purposes that a stage can do without."""


def choose(
    config: Config,
    *,
    preset: str,
    variant: Variant,
    stages: Sequence[str],
    models: Sequence[str] = (),
    diarization: bool = True,
    separation: bool = False,
    tagging: bool = False,
    language: str | None = None,
    apple: bool = False,
    int8: Container[Purpose] = (),
) -> dict[Purpose, Model]:
    """One model for each purpose that a planned stage uses.

    Args:
        stages: names of the planned stages.
        models: ids that take the place of the preset's for their purpose.
        separation: noise is to be taken out of the sound.
        tagging: music is to be looked for.
        language: of alignment, where models differ by language.
        int8: purposes for which a processor computes in int8: a model's pinned weights in int8 take its place.
        apple: stages run natively on Apple silicon, where a pinned model of MLX takes the place of Whisper's own.

    Raises:
        UsageError: an unknown id, two models for one purpose, or one that no planned stage would load.
    """
    if preset not in config.presets:
        raise UsageError(
            f'no preset "{preset}"', expected=", ".join(config.presets), hint=did_you_mean(preset, config.presets)
        )
    used = _purposes(config, stages, diarization=diarization, separation=separation, tagging=tagging)
    chosen = _of_preset(config, preset, variant, used, language)
    if apple:
        chosen = {purpose: _on_apple(config, model, variant) for purpose, model in chosen.items()}
    asked = _asked(config, models, variant, used, language)
    if any(model.engine == MLX for model in asked.values()) and not apple:
        raise UsageError(
            f'"{asked[Purpose.ASR].id}" is for native jobs on Apple silicon',
            where="--models",
            hint=f"--models {asked[Purpose.ASR].instead_of or 'another'}",
        )
    chosen |= asked
    chosen |= {purpose: config.models[in_int8(config, m.id)] for purpose, m in chosen.items() if purpose in int8}
    if Purpose.DIARIZATION in asked and Purpose.EMBEDDING in asked:
        pipeline, embedding = asked[Purpose.DIARIZATION].id, asked[Purpose.EMBEDDING].id
        raise UsageError(
            f'"{pipeline}" brings its own embedding: nothing would load "{embedding}"',
            where="--models",
            hint="leave one of them out",
        )
    if Purpose.DIARIZATION in chosen:
        # A pipeline brings its own embedding: nothing would load the preset's.
        chosen.pop(Purpose.EMBEDDING, None)
        used.discard(Purpose.EMBEDDING)
    chosen = _with_companions(config, chosen, used)
    _require_language(chosen.get(Purpose.ASR), language)
    missing = sorted(p.value for p in used if p not in chosen and p not in OPTIONAL)
    if missing:
        raise UsageError(f'preset "{preset}" names no model for {", ".join(missing)}', hint="add one in bake.yaml")
    return dict(sorted(chosen.items(), key=lambda item: item[0].value))


def _on_apple(config: Config, model: Model, variant: Variant) -> Model:
    """What computes a model on Apple's GPU, where one is pinned, else the model."""
    twins = (m for m in config.models.values() if m.instead_of == model.id and m.id in config.pins)
    return next((twin for twin in twins if variant in twin.variants), model)


def in_int8(config: Config, id_: str) -> str:
    """The id of a model's weights in int8 where these are pinned, else the model's."""
    made = f"{id_}{INT8}"
    return made if made in config.pins and config.models[made].int8_of == id_ else id_


def _purposes(
    config: Config, stages: Sequence[str], *, diarization: bool, separation: bool, tagging: bool
) -> set[Purpose]:
    """The purposes for which the planned stages load models."""
    for name in stages:
        if name not in config.stages:
            raise UsageError(f'no stage "{name}"', hint=did_you_mean(name, config.stages))
    used = {purpose for name in stages for purpose in config.stages[name].uses}
    if not separation:
        used -= {Purpose.SEPARATION, Purpose.VOCALS}
    if not tagging:
        used.discard(Purpose.TAGGING)
    return used if diarization else used - {Purpose.EMBEDDING, Purpose.SEGMENTATION, Purpose.DIARIZATION}


def _of_preset(
    config: Config, preset: str, variant: Variant, used: Set[Purpose], language: str | None
) -> dict[Purpose, Model]:
    """The preset's first model that the variant can load, for each purpose in use."""
    chosen: dict[Purpose, Model] = {}
    for purpose, ids in config.presets[preset].models.items():
        fitting = [config.models[i] for i in ids if variant in config.models[i].variants]
        if purpose is Purpose.ALIGNMENT:
            # One for each language, in the preset's order: the first where the language is to be detected. A stage can do
            # without one, so a model that nobody has pinned is left out: the words keep Whisper's times, and a note says so.
            fitting = [m for m in fitting if m.id in config.pins and (language is None or language in m.languages)]
        if purpose in used and fitting:
            chosen[purpose] = fitting[0]
    return chosen


def _with_companions(config: Config, chosen: dict[Purpose, Model], used: Set[Purpose]) -> dict[Purpose, Model]:
    """The chosen models and those that come with them. One that comes only as a companion goes without its model."""
    others = [config.models[m.companion] for m in chosen.values() if m.companion is not None]
    alone = {p: m for p, m in chosen.items() if p is not Purpose.SEGMENTATION}
    return alone | {other.purpose: other for other in others if other.purpose in used}


def _asked(
    config: Config, ids: Sequence[str], variant: Variant, used: Set[Purpose], language: str | None
) -> dict[Purpose, Model]:
    """The models of ``--models`` by purpose."""
    asked: dict[Purpose, Model] = {}
    for id_ in dict.fromkeys(ids):
        model = config.models.get(id_)
        if model is None:
            raise UsageError(
                f'no model "{id_}"', hint=did_you_mean(id_, config.models) or "models list shows all", where="--models"
            )
        if model.purpose in asked:
            raise UsageError(
                f'"{asked[model.purpose].id}" and "{id_}" are both for {model.purpose.value}', where="--models"
            )
        _require_use(model, variant, used, language)
        asked[model.purpose] = model
    return asked


def _require_use(model: Model, variant: Variant, used: Set[Purpose], language: str | None) -> None:
    """Raises UsageError for a model that no planned stage would load."""
    if variant not in model.variants:
        able = " or ".join(v.value for v in model.variants)
        raise UsageError(
            f'the {variant.value} variant can\'t load "{model.id}"', where="--models", hint=f"--variant {able}"
        )
    if model.purpose not in used or model.purpose is Purpose.SEGMENTATION:
        raise UsageError(
            f'no stage of this plan would load "{model.id}" (it is for {model.purpose.value})',
            where="--models",
            hint="leave it out" + ("; it comes with its embedding" if model.purpose in used else ""),
        )
    if model.purpose is Purpose.ALIGNMENT and language is not None and language not in model.languages:
        raise UsageError(f'"{model.id}" aligns {", ".join(model.languages)}, not {language}', where="--models")


def require_alignment(config: Config, language: str | None, chosen: Mapping[Purpose, Model]) -> None:
    """Refuse a language of ``--languages`` for which nothing was chosen.

    Args:
        language: Whisper's code; None: it is detected.

    Raises:
        UsageError: there is no model of alignment for it among ``chosen``.
    """
    where = "--languages"
    if languages.spoken(language) is None:
        raise UsageError(f"{language or 'auto'} is not a language to align", where=where, hint="leave --languages out")
    model = chosen.get(Purpose.ALIGNMENT)
    if model is not None and language in model.languages:
        return
    preset, variant = config.defaults.preset, config.defaults.variant
    fitting = [m for m in _aligners(config, preset) if variant in m.variants]
    known = ", ".join(dict.fromkeys(code for m in fitting if m.id in config.pins for code in m.languages))
    unpinned = next((m.id for m in fitting if language in m.languages and m.id not in config.pins), None)
    if unpinned:
        why, way = (
            f"{unpinned} is not pinned",
            f"models lock {unpinned}, where {'the hub' if config.models[unpinned].repo else 'the source'} can be reached; ",
        )
    else:
        able = [p for p in config.presets if any(language in m.languages for m in _aligners(config, p, config.pins))]
        why, way = f"no model aligns {language}", f"--variant full --preset {' or '.join(able)}; " * bool(able)
    raise UsageError(
        f'{variant.value}, preset "{preset}": {why}, so --languages {language} brings nothing',
        where=where,
        expected=known or "no --languages",
        hint=f"{way}without, {UNALIGNED}",
    )


def _aligners(config: Config, preset: str, among: Container[str] | None = None) -> list[Model]:
    """The models of alignment that a preset names, or those of them that are ``among`` some."""
    ids = config.presets[preset].models.get(Purpose.ALIGNMENT, ())
    return [config.models[id_] for id_ in ids if among is None or id_ in among]


UNALIGNED = "words keep the times that Whisper gives them, and English is aligned by a dictionary"
"""What becomes of a language without a model of alignment."""


def _require_language(asr: Model | None, language: str | None) -> None:
    """Raises UsageError when the model for speech doesn't know the language that was asked for."""
    if language is not None and asr is not None and asr.languages and language not in asr.languages:
        raise UsageError(
            f'model "{asr.id}" does not know the language "{language}"',
            expected=", ".join(asr.languages),
            hint="--preset starter, or another model",
        )


def require_pins(config: Config, models: Iterable[Model]) -> dict[str, Pin]:
    """The pins of ``models`` by id.

    Raises:
        MissingError: models.lock does not say which bytes one of them is.
    """
    wanted = list(models)
    unpinned = [m for m in wanted if m.id not in config.pins]
    if unpinned:
        pinned = ", ".join(p for p, spec in config.presets.items() if _all_pinned(config.pins, spec.models))
        names = " ".join(m.id for m in unpinned)
        way = (
            f"where {'the hub' if all(m.repo for m in unpinned) else 'the source'} can be reached: models lock {names}"
            if all(m.repo or m.url for m in unpinned)
            else "add size and sha256 to models.lock, as two independent public records say"
        )
        raise MissingError(
            f"not pinned, so not used: {', '.join(m.id for m in unpinned)}",
            where="models.lock",
            expected="revision, size and sha256 of every file",
            hint=way + (f"; ready presets: {pinned}" if pinned else ""),
        )
    return {m.id: config.pins[m.id] for m in wanted}


def _all_pinned(pins: Mapping[str, Pin], models: Mapping[Purpose, tuple[str, ...]]) -> bool:
    return all(ids[0] in pins for purpose, ids in models.items() if purpose is not Purpose.ALIGNMENT)
