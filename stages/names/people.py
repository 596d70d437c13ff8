"""Names of a recording: what they are, how often, and how each is spelt. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import spelling
from passages import Passage, Spoken

CORE = re.compile(r"^(\W*)(.*?)((?:['’]s?)?\W*)$", re.DOTALL)
"""What stands before a word, the word, and what stands after it, such as the s of a genitive."""

ARTICLES = ("the", "a", "an")

KEPT = {"people": ("person",), "all": ("person", "place", "organisation", "product"), "none": ()}
"""The setting ``keep`` -> kinds that a translation leaves as they are."""

MOST = 1000
"""Names of one recording; the most frequent count."""


@dataclass(frozen=True, kw_only=True)
class Mention:
    """A name where it is said."""

    words: tuple[Spoken, ...]
    kind: str
    """One of finder.KINDS, or ``listed``: it is one of the cast list's that no model took for a name."""

    @property
    def text(self) -> str:
        return " ".join(filter(None, (core(word.text) for word in self.words)))


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """A word that may be another's name."""

    before: str
    after: str
    why: str
    applied: bool
    places: tuple[Spoken, ...]

    def data(self) -> dict[str, Any]:
        """As ``work/names/<in>.json`` has it."""
        first = round(min(place.start for place in self.places), 3)
        known = {"before": self.before, "after": self.after, "why": self.why, "applied": self.applied}
        return known | {"count": len(self.places), "first": first}

    def changes(self) -> list[dict[str, Any]]:
        """Each word that is spelt anew: its place in the result, and its text before and after."""
        return [
            {
                "segment": place.segment,
                "word": place.word,
                "start": round(place.start, 3),
                "end": round(place.end, 3),
                "before": place.text,
                "after": anew(place.text, self.after),
                "why": self.why,
            }
            for place in self.places
        ]


@dataclass
class Book:
    """All words of a recording that matter to names."""

    mentions: list[Mention] = field(default_factory=list)
    small: set[str] = field(default_factory=set)
    """Words that stand there without a capital."""
    capital: list[Spoken] = field(default_factory=list)
    """Words with a capital within a sentence."""

    def add(self, passage: Passage, found: Iterable[tuple[int, int, str]], cast: Cast) -> None:
        """Take in a passage and the names that a model found in it."""
        listed = {place: words for words in cast.within(passage.words) for place in words}
        kinds: dict[Spoken, str] = {}
        for start, end, kind in found:
            words = passage.between(start, end)
            while len(words) > 1 and core(words[0].text).casefold() in ARTICLES:
                words = words[1:]
            if any(word in listed for word in words):
                kinds |= dict.fromkeys(words, kind)
            elif any(core(word.text)[:1].isupper() for word in words):
                self.mentions.append(Mention(words=tuple(words), kind=kind))
        for words in {id(words): words for words in listed.values()}.values():
            kind = next((kinds[word] for word in words if word in kinds), "listed")
            self.mentions.append(Mention(words=tuple(words), kind=kind))
        for word in passage.words:
            text = core(word.text)
            if text[:1].islower():
                self.small.add(text.casefold())
            elif text[:1].isupper() and not word.first:
                self.capital.append(word)

    def doubtful(self, mention: Mention) -> bool:
        """Whether a word is taken for a name that stands without a capital elsewhere: Okay, Mum."""
        return len(mention.words) == 1 and mention.text.casefold() in self.small


class Cast:
    """Names that are known beforehand."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = list(dict.fromkeys(" ".join(name.split()) for name in names if name.strip()))
        words = (word for name in self.names for word in name.split())
        self.words = list(dict.fromkeys(word for word in words if word[:1].isupper()))
        """Single words of them with a capital."""
        self._plain = {spelling.plain(word) for word in self.words}
        self._by_first: dict[str, list[list[str]]] = defaultdict(list)
        for name in sorted(self.names, key=lambda n: -len(n.split())):
            parts = [spelling.plain(part) for part in name.split()]
            self._by_first[parts[0]].append(parts)

    def knows(self, word: str) -> bool:
        return spelling.plain(word) in self._plain

    def within(self, words: Sequence[Spoken]) -> Iterable[list[Spoken]]:
        """The places where whole names of the list are said; the longest counts."""
        plain = [spelling.plain(core(word.text)) for word in words]
        at = 0
        while at < len(words):
            for parts in self._by_first.get(plain[at], ()) if core(words[at].text)[:1].isupper() else ():
                if plain[at : at + len(parts)] == parts:
                    yield list(words[at : at + len(parts)])
                    at += len(parts) - 1
                    break
            at += 1


def core(text: str) -> str:
    """A word without punctuation and a genitive's s."""
    match = CORE.match(text)
    return match[2] if match else text


def anew(text: str, name: str) -> str:
    """A word as the text has it, with another name in it."""
    return CORE.sub(lambda found: found[1] + name + found[3], text, count=1)


def spellings(book: Book, cast: Cast) -> list[Spelling]:
    """Words that may be another name; with a cast list those are spelt anew that are close to one of its.

    Without one they are told of: of two spellings that are close, the more frequent is the likelier.
    """
    places: dict[str, list[Spoken]] = defaultdict(list)
    for mention in book.mentions:
        for word in mention.words:
            if core(word.text)[:1].isupper():
                places[core(word.text)].append(word)
    named = {text: len(found) for text, found in places.items()}
    for word in book.capital:
        text = core(word.text)
        if text not in named and text.casefold() not in book.small:
            places[text].append(word)
    made: list[Spelling] = []
    listed, frequent = spelling.Index(cast.words), spelling.Index(named)
    for text in places:
        found = None if cast.knows(text) else listed.nearest(text)
        if found is not None:
            why = f'{found[1]} as "{found[0]}" of the list of names'
            made.append(Spelling(before=text, after=found[0], why=why, applied=True, places=tuple(places[text])))
    done = {entry.before for entry in made}
    for text in sorted(named, key=lambda t: (named[t], t)):
        if text in done or cast.knows(text) or text.casefold() in book.small:
            continue
        if (other := frequent.nearest(text, lambda o, n=named[text]: named[o] > n and o not in done)) is not None:
            why = f'{other[1]} as "{other[0]}", which is more frequent'
            made.append(Spelling(before=text, after=other[0], why=why, applied=False, places=tuple(places[text])))
    return sorted(made, key=lambda entry: (not entry.applied, entry.places[0].start, entry.before))


def entities(book: Book, made: Sequence[Spelling]) -> list[dict[str, Any]]:
    """The names, the most frequent first: text, kind, how often, and when for the first time.

    Args:
        made: spellings; those that are applied are in the names' texts.
    """
    anew_by = {entry.before: entry.after for entry in made if entry.applied}
    groups: dict[str, list[tuple[str, Mention]]] = defaultdict(list)
    within = {word for mention in book.mentions for word in mention.words}
    anew_places = [place for entry in made if entry.applied for place in entry.places]
    more = [Mention(words=(place,), kind="listed") for place in anew_places if place not in within]
    sure = [m for m in book.mentions if not book.doubtful(m) or m.text in anew_by]
    for mention in (*sure, *more):
        words = (core(word.text) for word in mention.words)
        text = " ".join(anew_by.get(word, word) for word in words if word)
        if text:
            groups[text.casefold()].append((text, mention))
    found = []
    for group in groups.values():
        kinds = Counter(mention.kind for _, mention in group)
        found.append(
            {
                "text": Counter(text for text, _ in group).most_common(1)[0][0],
                "kind": kinds.most_common(1)[0][0],
                "count": len(group),
                "first": round(min(mention.words[0].start for _, mention in group), 3),
            }
        )
    return sorted(found, key=lambda entry: (-entry["count"], entry["first"], entry["text"]))[:MOST]


def kept(found: Iterable[dict[str, Any]], cast: Cast, keep: str) -> list[str]:
    """The names that a translation leaves as they are, those of the cast list among them."""
    kinds = KEPT[keep]
    listed = {name.casefold() for name in cast.names}
    mine = [e["text"] for e in found if e["kind"] in (*kinds, "listed") or e["text"].casefold() in listed]
    return sorted(dict.fromkeys(mine))
