"""Which languages a job's text can be translated into, and by whom. Pure.

A backend is chosen for each pair of languages by what is there: :func:`chosen` takes the first pair that is ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.core import languages
from builder.core.terms import Mode, Purpose
from builder.core.weights.model import Model, Pin
from builder.errors import UsageError
from builder.receiver.jobs.languages import KNOWN, LANGUAGES
from builder.receiver.jobs.translating import (
    ALONE,
    ANY,
    ENGLISH,
    HEARD,
    MOST_TRANSLATIONS,
    NEURAL,
    TRANSLATE,
    Way,
    backends_text,
    first_backend,
    spare_backends,
)

STAGE, TO, BACKENDS, OTHERS = TRANSLATE, "to", "backends", "others"
"""The stage, its setting with the languages, and those that say who translates into each, and who else what is in doubt."""

UNTRAINED = "turbo"
"""In the id of a Whisper model that OpenAI didn't train to translate."""


@dataclass(frozen=True, kw_only=True)
class Pair(Way):
    """From one language into another, and what that takes."""

    why: str
    """What does it, or what is lacking for it."""
    ready: bool = True
    model: str = ""
    """Id of the model that it needs, beside the one that hears."""


def heard(model: Model) -> tuple[Pair, ...]:
    """What a model for speech translates by itself."""
    lacking = ""
    if model.engine:
        lacking = f"{model.id} is for {model.engine}, and no Whisper model"
    elif model.languages:
        lacking = f"{model.id} knows {', '.join(model.languages)} only"
    elif UNTRAINED in model.id:
        lacking = f"{model.id} was not trained to translate"
    why = lacking or f"{model.id} hears any language in English"
    return (Pair(source=ANY, target="en", backend=HEARD, why=why, ready=not lacking),)


def neural(model: Model, *, lacking: str = "") -> tuple[Pair, ...]:
    """What a model for translation translates: what it reads into what it writes; without ``languages`` it reads this too.

    Args:
        lacking: why it can't be used here.
    """
    terms = "" if model.commercial else " (not for commercial use)"
    unread = frozenset() if model.languages else frozenset(LANGUAGES) - frozenset(model.into)
    return tuple(
        Pair(
            source=source,
            target=target,
            backend=NEURAL,
            why=f"{model.id}{terms}{lacking and f': {lacking}'}",
            ready=not lacking,
            model=model.id,
            besides=unread if source == ANY else frozenset(),
        )
        for source in model.languages or (ANY,)
        for target in model.into
        if source != target
    )


def suited(models: Iterable[Model], source: str | None, wanted: Sequence[str]) -> Model | None:
    """The model that translates most of what is wanted, the first of equals; None where none translates any of it."""

    def able(model: Model) -> int:
        pairs = neural(model)
        return sum(any(pair.takes(source, target) for pair in pairs) for target in wanted)

    best = max(models, key=able, default=None)
    return best if best is not None and able(best) else None


def apertium(pairs: Iterable[tuple[str, str]], mode: Mode, inside: Iterable[str] = ()) -> tuple[Pair, ...]:
    """What Apertium translates: on this machine by its pairs, in images by those that bake.yaml wants there.

    Args:
        inside: names of Debian's packages without ``apertium-``: ``eng-spa``, which has both ways.
    """
    native = mode is Mode.NATIVE
    baked = [] if native else [way for name in inside for way in _ways(name)]
    here = list(pairs)
    why = "Apertium's rules" if native else "images don't have it: translation.apertium in bake.yaml, or --mode native"
    found = {way: Pair(source=way[0], target=way[1], backend="apertium", why=why, ready=native) for way in here}
    found |= {way: Pair(source=way[0], target=way[1], backend="apertium", why="Apertium's rules") for way in baked}
    return tuple(found.values())


def _ways(name: str) -> list[tuple[str, str]]:
    """Both ways of a pair, by Whisper's codes; none where Whisper doesn't know a language."""
    a, b = (KNOWN.get(code) for code in name.split("-"))
    return [(a, b), (b, a)] if a and b else []


def asked(model: str, host: str) -> tuple[Pair, ...]:
    """What a language model translates: whatever it is asked for. Nobody else stands behind it, so it comes last.

    Args:
        host: whose interface it is.
    """
    why = f"{model}, by the network: run --allow-network {host}"
    return tuple(
        Pair(source=ANY, target=target, backend=ALONE, why=why, besides=frozenset({target})) for target in LANGUAGES
    )


def targets(text: str, *, where: str = "--to") -> tuple[str, ...]:
    """The languages of ``--to``, as Whisper's codes, each once.

    Raises:
        UsageError: one isn't known, none is named, or they are too many.
    """
    found: list[str] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        code = languages.require(word, where=where)
        if languages.spoken(code) is None:
            raise UsageError(f'"{word}" is not a language to translate into', where=where, expected="such as en,es")
        found.append(str(code))
    if not found:
        raise UsageError("no language is named", where=where, expected="such as en,es")
    if len(set(found)) > MOST_TRANSLATIONS:
        raise UsageError(f"a job has at most {MOST_TRANSLATIONS} translations", where=where)
    return tuple(dict.fromkeys(found))


def chosen(
    source: str | None, wanted: Iterable[str], pairs: Sequence[Pair], *, wished: Mapping[str, str]
) -> dict[str, str]:
    """Target -> backend.

    Args:
        source: the language that is spoken; None: it is detected.
        pairs: the better come first.
        wished: target -> the backend that somebody wants.

    Raises:
        UsageError: no backend is ready for a pair; it lists those that there are from the source.
    """
    found = {}
    for target in wanted:
        if target == source:
            raise UsageError(f"{target} is what is spoken", where="--to", hint="name another language")
        backend = first_backend(source, target, (p for p in pairs if p.ready), wished.get(target))
        if backend is None:
            raise _none(source, target, pairs, wish=wished.get(target))
        found[target] = backend
    return found


def others(source: str | None, backends: Mapping[str, str], pairs: Sequence[Pair]) -> dict[str, str]:
    """Target -> another backend than the chosen one that is ready, for those that have one.

    Args:
        source: the language that is spoken; None: it is detected, and whether it is one of the pair's shows then.
        backends: target -> the chosen one.
    """
    return spare_backends(source, backends, [pair for pair in pairs if pair.ready])


def _none(source: str | None, target: str, pairs: Sequence[Pair], *, wish: str | None) -> UsageError:
    """The error of a pair that can't be done."""
    spoken = source or "a language that is to be detected"
    there = [p for p in pairs if p.ready and p.source in (ANY, source) and p.target != source]
    lacking = [f"{p.backend}: {p.why}" for p in pairs if not p.ready and p.takes(source, target)]
    unheard = source is None and any(p.ready and p.target == target for p in pairs)
    names = ", ".join(dict.fromkeys(f"{p.target} ({p.backend})" for p in there)) or "nothing"
    return UsageError(
        f"{wish} doesn't translate {spoken} into {target}"
        if wish
        else f"nothing here translates {spoken} into {target}",
        where="--to",
        expected=f"from {source or 'any language'}: {names}",
        detail=lacking,
        hint="-s says which language is spoken" if unheard else "another --to",
    )


def wishes(text: str | None) -> dict[str, str]:
    """Target -> backend, from the setting ``translate.backends``: ``en=whisper,fr=apertium``.

    Raises:
        UsageError: it isn't of that form.
    """
    found = {}
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        target, equals, backend = part.partition("=")
        if not equals or not backend.strip().isalnum():
            raise UsageError(f'"{part}" names no backend', where=f"{STAGE}.{BACKENDS}", expected="such as en=whisper")
        found[targets(target, where=f"{STAGE}.{BACKENDS}")[0]] = backend.strip()
    return found


def loaded(
    models: Mapping[Purpose, tuple[Model, Pin]], settings: Mapping[str, Mapping[str, Any]], asked: Sequence[str] = ()
) -> dict[Purpose, tuple[Model, Pin]]:
    """A job's models without one for translation that no backend would load.

    Args:
        asked: ids that somebody typed.

    Raises:
        UsageError: that one was typed.
    """
    backends = wishes(settings.get(STAGE, {}).get(BACKENDS)).values()
    if Purpose.TRANSLATION not in models or NEURAL in backends:
        return dict(models)
    if (id_ := models[Purpose.TRANSLATION][0].id) in asked:
        raise UsageError(
            f'nothing is translated by "{id_}"',
            where="--models",
            hint=f"{TO} and the setting {STAGE}.{BACKENDS} say who translates"
            if backends
            else "--to es, or leave it out",
        )
    return {purpose: use for purpose, use in models.items() if purpose is not Purpose.TRANSLATION}


def listed(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The languages of a stage's settings."""
    return tuple(filter(None, str(settings.get(TO) or "").split(",")))


def settle(settings: dict[str, dict[str, Any]], to: str | None, *, source: str | None, pairs: Sequence[Pair]) -> None:
    """Put into a request's settings what it takes to translate.

    Args:
        settings: stage -> settings, which are changed.
        to: the languages that are asked for, as they were typed; None: none.
        source: the language that is spoken; None: it is detected.

    Raises:
        UsageError: a pair can't be done, or the text is a translation already.
    """
    if to is None:
        return
    if settings["asr"].get("task") == "translate":
        raise UsageError("with --task translate the text is English already", where="--to", hint="leave out --task")
    mine = settings.setdefault(STAGE, {})
    found = chosen(source, targets(to), pairs, wished=wishes(mine.get(BACKENDS)))
    mine |= {TO: ",".join(found), BACKENDS: backends_text(found)}
    if (spare := others(source, found, pairs)) and mine.get(OTHERS) is None:
        mine[OTHERS] = backends_text(spare)
    settings["asr"][ENGLISH] = HEARD in found.values()
