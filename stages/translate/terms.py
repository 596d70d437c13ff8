"""Terms that a translation keeps as they are wanted, by placeholders. Pure.

Before a text is translated, :class:`Terms` puts a character of private use in each term's place; :func:`unmask` puts the wanted
text in its place after. What a backend gets may have such characters, and it brings them back: :func:`coded` makes words of
them that no dictionary has, and :func:`decoded` finds these words again, whatever became of their case.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence

FIRST = 0xE000
"""The first character of private use; a text's own ones are taken out of it before."""

MOST = 256
"""Terms of one text; more are left to the backend."""

HELD = re.compile("[\ue000-\uf8ff]+")
"""A placeholder as a backend sees it: a run of them is one."""

NOTHING = "(?!)"
"""A pattern that is nowhere."""

LETTERS = "bcdfghjklmnpqrstvwxz"
"""Letters of the words that stand for placeholders. A word is taken as a name: of 924 in 465 sentences Apertium (English to
Spanish) lost none, but for the case of some; brackets around a number lost 11."""

WORD = re.compile(rf"xq([{LETTERS}]+)qx", re.IGNORECASE)


class Terms:
    """Terms that are looked for in many texts."""

    def __init__(self, wanted: Mapping[str, str], *, exact: Container[str] = ()) -> None:
        """Args:
        wanted: a term as it is written in the text -> what the translation shall have.
        exact: terms of which capitals count: Rose is no rose.
        """
        self.wanted = dict(wanted)
        self.exact = exact
        self._by_fold = {term.casefold(): term for term in wanted}
        groups: dict[str, list[str]] = {}  # by their first letters: a place in a text is compared with few of thousands
        for term in sorted(wanted, key=lambda term: (-len(term), term)):
            groups.setdefault(term[0].lower(), []).append(term)
        self._pattern = re.compile("|".join(map(_beginning, groups.values())) or NOTHING, re.IGNORECASE)

    def mask(self, text: str) -> tuple[str, list[str]]:
        """A text with placeholders in the place of terms, and what each of them stands for, in order.

        The longest term counts where several begin at a place. Capitals don't count, but a term of capitals alone, such as
        US, isn't found in small letters.
        """
        held: list[str] = []

        def replaced(found: re.Match[str]) -> str:
            term = self._by_fold.get(found[0].casefold())
            strict = term is not None and (term in self.exact or (len(term) > 1 and term.isupper()))
            if term is None or len(held) == MOST or (strict and found[0] != term):
                return found[0]
            held.append(self.wanted[term])
            return chr(FIRST + len(held) - 1)

        return self._pattern.sub(replaced, HELD.sub("", text)), held


def _beginning(terms: Sequence[str]) -> str:
    """A pattern for terms of one first letter as whole words; scripts without spaces have none to look for."""
    first = "".join(dict.fromkeys(re.escape(term[0]) for term in terms))
    before = r"(?<!\w)" if _spaced(terms[0][0]) else ""
    whole = (re.escape(term) + (r"(?!\w)" if _spaced(term[-1]) else "") for term in terms)
    return f"{before}(?=[{first}])(?:{'|'.join(whole)})"


def _spaced(letter: str) -> bool:
    """Whether a letter's script puts spaces between words: not Thai, Lao, Burmese, Khmer, kana or Han."""
    code = ord(letter)
    without = 0x0E00 <= code < 0x0F00 or 0x1000 <= code < 0x10A0 or 0x1780 <= code < 0x1800 or 0x3040 <= code < 0xA000
    return (letter.isalnum() or letter == "_") and not without


def unmask(text: str, held: Sequence[str]) -> tuple[str, list[str]]:
    """A translation with the wanted text in its placeholders' place, and what is missing in it."""
    missing = [wanted for k, wanted in enumerate(held) if chr(FIRST + k) not in text]

    def wanted(found: re.Match[str]) -> str:
        return "".join(held[k] for letter in found[0] if (k := ord(letter) - FIRST) < len(held))

    return HELD.sub(wanted, text), missing


def coded(text: str) -> tuple[str, list[str]]:
    """A text with words in the place of placeholders, and these in order."""
    held: list[str] = []

    def word(found: re.Match[str]) -> str:
        held.append(found[0])
        return f"Xq{_digits(len(held) - 1)}qx"

    return HELD.sub(word, text), held


def decoded(text: str, held: Sequence[str]) -> str:
    """A text with its placeholders again."""
    words = {_digits(k): token for k, token in enumerate(held)}
    return WORD.sub(lambda found: words.get(found[1].lower(), found[0]), text)


def _digits(number: int) -> str:
    """A number in :data:`LETTERS`, two of them at least."""
    found = ""
    while number or len(found) < 2:
        number, digit = divmod(number, len(LETTERS))
        found = LETTERS[digit] + found
    return found
