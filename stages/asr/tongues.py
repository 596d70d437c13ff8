"""Which language is spoken: in a recording, or in each of its windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from contract import InputFault

EACH = "auto-segments"
"""The setting ``language`` that asks for each window's own language."""

SURE = 0.5
"""Probability below which a language is a guess: faster-whisper's own threshold."""

CLEAR = 0.8
"""Probability below which a window's language is doubtful, and the recording's others count more."""

LISTEN = 4
"""Windows that are heard while a recording's language is in doubt."""


def require_language(model: Any, language: str, name: str) -> None:
    """Refuse a language that a model has no token for, whatever its library's list says.

    Raises:
        InputFault: it has none.
    """
    known = sorted(
        code
        for code in model.supported_languages
        if not model.model.is_multilingual or model.hf_tokenizer.token_to_id(f"<|{code}|>") is not None
    )
    if language not in known:
        raise InputFault(
            f"model {name} does not know the language {language!r}; it knows {', '.join(known[:12])}…"
            if len(known) > 1
            else f"model {name} knows English only, not {language!r}"
        )


def likeliest(chances: Iterable[tuple[float, dict[str, float]]]) -> tuple[str, float]:
    """The language of several windows and its probability: the mean, weighted by the windows' lengths.

    Args:
        chances: seconds of a window, and language -> probability in it; at least one.
    """
    total: dict[str, float] = {}
    seconds = 0.0
    for length, chance in chances:
        seconds += length
        for language, p in chance.items():
            total[language] = total.get(language, 0.0) + length * p
    best = max(total, key=lambda name: (total[name], name))
    return best, total[best] / max(seconds, 1e-9)


def settled(chances: list[tuple[float, dict[str, float]]], clear: set[str]) -> list[str]:
    """Each window's language, by what others of the recording say where its own answer isn't clear.

    Languages that no window is clear about count a third: a recording has few.

    Args:
        clear: languages of earlier windows that were clear; those of these windows are added.
    """
    own = [likeliest([one]) for one in chances]
    clear.update(language for language, p in own if p >= CLEAR)
    found = []
    for (seconds, chance), (mine, p) in zip(chances, own, strict=True):
        if p < CLEAR and clear:
            weighed = {language: p if language in clear else p / 3 for language, p in chance.items()}
            mine, _ = likeliest([(seconds, weighed)])
        found.append(mine)
    return found
