"""Forced alignment over what a CTC model hears (Graves et al., Connectionist Temporal Classification, ICML 2006). Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

LATIN = {
    "ß": "ss",
    "æ": "ae",
    "œ": "oe",
    "ø": "o",
    "ł": "l",
    "đ": "d",
    "ð": "d",
    "þ": "th",
    "ı": "i",
    "ŋ": "n",
    "ħ": "h",
}
"""Latin letters that Unicode doesn't take apart."""

WILD = 0.5
"""What the wild card loses in each frame against the best letter, in logarithms: where both fit, the letter is taken."""


def letters(word: str, vocabulary: Mapping[str, int]) -> list[int]:
    """The numbers of a word's letters; a letter that the model lacks is written without its marks, or left out."""
    found = []
    for letter in word.strip().replace("’", "'").lower():
        if letter in vocabulary:
            found.append(vocabulary[letter])
        elif letter.upper() in vocabulary:
            found.append(vocabulary[letter.upper()])
        else:
            plain = LATIN.get(letter) or unicodedata.normalize("NFKD", letter)
            found += [vocabulary[c] for c in plain if len(c) == 1 and c.isalpha() and c in vocabulary]
    return found


def with_wild_card(scores: Any, blank: int) -> Any:
    """Logarithms of probabilities [frames, labels] of scores, with a last column for anything that is said."""
    import numpy as np

    scores = scores - scores.max(axis=1, keepdims=True)
    scores = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    said = np.delete(scores, blank, axis=1).max(axis=1, keepdims=True) - WILD
    return np.concatenate([scores, said], axis=1)


def aligned(scores: Any, targets: Sequence[int], blank: int) -> list[tuple[int, int]] | None:
    """The frames of each target, first and one after the last, on the best of all paths.

    The first target and the last may be left out (their frames are then (0, 0)): they are for what is heard of the words around.

    Args:
        scores: logarithms of probabilities, [frames, labels].
        targets: labels in order, three or more; none of them is ``blank``.

    Returns:
        None where the targets don't fit into the frames.
    """
    import numpy as np

    states = np.full(2 * len(targets) + 1, blank)
    states[1::2] = targets
    skips = np.zeros(len(states), dtype=bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    never = np.full(2, -np.inf)
    best = np.full(len(states), -np.inf)
    best[:4] = scores[0, states[:4]]
    came = np.zeros((len(scores), len(states)), dtype=np.int8)
    for frame in range(1, len(scores)):
        before = np.concatenate([never, best])
        ways = np.stack([best, before[1:-1], np.where(skips, before[:-2], -np.inf)])
        came[frame] = ways.argmax(axis=0)
        best = ways.max(axis=0) + scores[frame, states]
    state = len(states) - 1 - int(best[:-5:-1].argmax())
    if best[state] == -np.inf:
        return None
    spans = [(0, 0)] * len(targets)
    for frame in range(len(scores) - 1, -1, -1):
        if state % 2:
            spans[state // 2] = (frame, max(frame + 1, spans[state // 2][1]))
        state -= int(came[frame, state])
    return spans
