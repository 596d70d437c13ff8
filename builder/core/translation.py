"""Which languages a job's text can be translated into, and by whom. Pure.

A backend is chosen for each pair of languages by what is there: :func:`chosen` takes the first pair that is ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.core import languages
from builder.core.terms import Mode
from builder.core.weights.model import Model
from builder.errors import UsageError

ANY = "*"
"""A pair's source where a backend takes any language that is spoken."""

STAGE, TO, BACKENDS, OTHERS = "translate", "to", "backends", "others"
"""The stage, its setting with the languages, and those that say who translates into each, and who else what is in doubt."""

HEARD, ENGLISH = "whisper", "english"
"""The backend that hears the sound in English, and the setting of asr that makes it do so."""

SPARE = ("apertium",)
"""Backends that the second pass may ask besides the chosen one: they need no model, and no sound."""

UNTRAINED = "turbo"
"""In the id of a Whisper model that OpenAI didn't train to translate."""

MOST = 10
"""Languages of one job."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """From one language into another."""

    source: str
    """Whisper's code, or :data:`ANY`."""
    target: str
    backend: str
    why: str
    """What does it, or what is lacking for it."""
    ready: bool = True

    def takes(self, source: str | None, target: str) -> bool:
        """Whether it translates into ``target``; a ``source`` of None is detected, and may be any."""
        return self.target == target and self.source in (ANY, source)


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


def apertium(pairs: Iterable[tuple[str, str]], mode: Mode) -> tuple[Pair, ...]:
    """What this machine's Apertium translates, by its pairs; images have none of it."""
    native = mode is Mode.NATIVE
    why = "Apertium's rules" if native else "Apertium isn't in images: --mode native"
    return tuple(Pair(source=a, target=b, backend="apertium", why=why, ready=native) for a, b in pairs)


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
    if len(set(found)) > MOST:
        raise UsageError(f"a job has at most {MOST} translations", where=where)
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
        able = [p for p in pairs if p.ready and p.takes(source, target)]
        mine = [p for p in able if wished.get(target, p.backend) == p.backend]
        if not mine:
            raise _none(source, target, pairs, wish=wished.get(target))
        found[target] = mine[0].backend
    return found


def others(source: str | None, backends: Mapping[str, str], pairs: Sequence[Pair]) -> dict[str, str]:
    """Target -> another backend than the chosen one that is ready, for those that have one.

    Args:
        source: the language that is spoken; None: it is detected, and whether it is one of the pair's shows then.
        backends: target -> the chosen one.
    """
    found = {}
    for target, backend in backends.items():
        able = [p for p in pairs if p.ready and p.target == target and source in (None, p.source)]
        if names := [p.backend for p in able if p.backend in SPARE and p.backend != backend]:
            found[target] = names[0]
    return found


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
    mine |= {TO: ",".join(found), BACKENDS: ",".join(f"{target}={name}" for target, name in found.items())}
    if (spare := others(source, found, pairs)) and mine.get(OTHERS) is None:
        mine[OTHERS] = ",".join(f"{target}={name}" for target, name in spare.items())
    settings["asr"][ENGLISH] = HEARD in found.values()
