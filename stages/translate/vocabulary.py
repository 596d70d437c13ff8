"""What a translation model reads and writes: its family, its languages' tags, and the pieces of a text with them. Pure.

The rules are those that each family's authors publish with it: NLLB-200 has FLORES-200's tags (Costa-jussà et al., "No
Language Left Behind", 2022), M2M-100 ``__en__`` (Fan et al., 2020), OPUS-MT ``>>spa<<`` where it has several targets
(Tiedemann and Thottingal, 2020), IndicTrans2 both of FLORES-200's tags before the text, and texts as ``indic`` prepares them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import indic
from contract import InputFault, ModelFault

END = "</s>"
UNKNOWN = "<unk>"

FITTING = 0.9
"""Share of a SentencePiece model's pieces that the vocabulary of the same model has at least; of M2M-100's it has 99.9 %."""

SCRIPTS = """
af afr am amh:Ethi ar arb:Arab as asm:Beng az azj ba bak:Cyrl be bel:Cyrl bg bul:Cyrl bn ben:Beng bo bod:Tibt bs bos ca cat
cs ces cy cym da dan de deu el ell:Grek en eng es spa et est eu eus fa pes:Arab fi fin fo fao fr fra gl glg gu guj:Gujr ha hau
he heb:Hebr hi hin:Deva hr hrv ht hat hu hun hy hye:Armn id ind is isl it ita ja jpn:Jpan jw jav ka kat:Geor kk kaz:Cyrl
km khm:Khmr kn kan:Knda ko kor:Hang lb ltz ln lin lo lao:Laoo lt lit lv lvs mg plt mi mri mk mkd:Cyrl ml mal:Mlym mn khk:Cyrl
mr mar:Deva ms zsm mt mlt my mya:Mymr ne npi:Deva nl nld nn nno no nob oc oci pa pan:Guru pl pol ps pbt:Arab pt por ro ron
ru rus:Cyrl sa san:Deva sd snd:Arab si sin:Sinh sk slk sl slv sn sna so som sq als sr srp:Cyrl su sun sv swe sw swh ta tam:Taml
te tel:Telu tg tgk:Cyrl th tha:Thai tk tuk tl tgl tr tur tt tat:Cyrl uk ukr:Cyrl ur urd:Arab uz uzn vi vie yi ydd:Hebr yo yor
yue yue:Hant zh zho:Hans
"""
"""Whisper's codes and FLORES-200's: the language, and its script where that isn't Latin."""

INDIC = "indictrans"

WRITTEN = 0.1
"""Share of a vocabulary's tokens with Devanagari that it is of the languages of India from; English has next to none."""

OTHER = {"jw": "jv", "yue": "zh"}
"""Codes that M2M-100 has others for."""


def flores() -> dict[str, str]:
    """Whisper's codes -> FLORES-200's tags, ``eng_Latn``."""
    words = SCRIPTS.split()
    tags = (word.partition(":") for word in words[1::2])
    return {code: f"{name}_{script or 'Latn'}" for code, (name, _, script) in zip(words[::2], tags, strict=True)}


Pieces = Callable[[str], Sequence[str]]
"""A text's pieces, as SentencePiece cuts it."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a model is told what to do."""

    name: str
    tags: Mapping[str, str]
    """Whisper's codes -> the tags that its vocabulary has."""
    own_end: bool = False
    """CTranslate2 adds the end of the source itself."""
    known: frozenset[str] = field(default_factory=frozenset)
    """The source's vocabulary."""
    writes: Mapping[str, str] = field(default_factory=dict)
    """The tags of languages that it writes, where these are others than those that it reads."""

    @property
    def holds(self) -> bool:
        """Whether it has names of its own for what isn't translated."""
        return self.name == INDIC

    def tag(self, language: str, *, written: bool = False) -> str:
        """A language's tag.

        Raises:
            InputFault: the model doesn't have it; those that it has are named.
        """
        tags, does = (self.tags, "reads") if self.writes else (self.tags, "has")
        if written and self.writes:
            tags, does = self.writes, "writes"
        if language not in tags:
            raise InputFault(f"this model has no {language}; it {does} {', '.join(sorted(tags)) or 'one pair only'}")
        return tags[language]

    def told(self, text: str, source: str, *, hold: bool = True) -> tuple[str, list[str]]:
        """A text as the model reads it, and what it holds that isn't translated."""
        return indic.prepared(text, self.tag(source), hold=hold) if self.holds else (text, [])

    def written(self, text: str, target: str, held: Sequence[str]) -> str:
        """What the model wrote, as it is read."""
        return indic.readable(text, self.tag(target, written=True), held) if self.holds else text

    def source(self, pieces: Sequence[str], source: str, target: str) -> list[str]:
        """The tokens of a text in ``source`` that is to be translated into ``target``."""
        told = [piece if piece in self.known else UNKNOWN for piece in pieces]
        told = told if self.own_end else [*told, END]
        if self.name == "marian":
            return [self.tag(target), *told] if self.tags else told
        if self.name == INDIC:
            return [self.tag(source), self.tag(target, written=True), *told]
        return [self.tag(source), *told]

    def prefix(self, target: str) -> list[str]:
        """The tokens that a translation begins with."""
        return [] if self.name in ("marian", INDIC) else [self.tag(target)]

    def text(self, tokens: Sequence[str]) -> list[str]:
        """The pieces of a translation without special tokens and tags."""
        special = {END, UNKNOWN, "<s>", "<pad>", "<blank>", *self.tags.values(), *self.writes.values()}
        return [token for token in tokens if token not in special and not token.startswith("madeupword")]


def family(folder: Path) -> Family:
    """What the model in a folder is, by its files.

    Raises:
        ModelFault: it is none of those that are known here, or a file can't be read.
    """
    try:
        known = vocabulary(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise ModelFault(f"{folder.name}: not a translation model of CTranslate2's: {error}") from error
    own_end = bool(config.get("add_source_eos")) if isinstance(config, dict) else False
    if indic_files(folder):
        return _indic(folder, known, own_end=own_end)
    if (folder / "source.spm").is_file():
        tags = {code: f">>{tag.partition('_')[0]}<<" for code, tag in flores().items()}
        name = "marian"
    elif "eng_Latn" in known:
        tags, name = flores(), "nllb"
    elif "__en__" in known:
        tags, name = {code: f"__{OTHER.get(code, code)}__" for code in flores()}, "m2m"
    else:
        kinds = "OPUS-MT, M2M-100, NLLB-200 nor IndicTrans2"
        raise ModelFault(f"{folder.name}: neither {kinds}: its vocabulary has none of their tags")
    there = {code: tag for code, tag in tags.items() if tag in known}
    return Family(name=name, tags=there, own_end=own_end, known=frozenset(known))


def indic_files(folder: Path) -> tuple[str, ...]:
    """IndicTrans2's SentencePiece models, as its authors publish them: of the source, and of the target; none: it isn't this."""
    for under in ("vocab/", ""):
        names = (f"{under}model.SRC", f"{under}model.TGT")
        if all((folder / name).is_file() for name in names):
            return names
    return ()


def _indic(folder: Path, known: set[str], *, own_end: bool) -> Family:
    """IndicTrans2 in one of its three directions. Which one, the letters of its vocabularies tell: the tags of all languages
    may be in the source's.

    Raises:
        ModelFault: there is no vocabulary of the target, or it is damaged; no tag is in the source's.
    """
    try:
        made = vocabulary(folder, "target")
    except (OSError, ValueError) as error:
        raise ModelFault(f"{folder.name}: not a translation model of CTranslate2's: {error}") from error
    there = {code: tag for code, tag in flores().items() if tag in known}
    reads, writes = (
        {code: tag for code, tag in there.items() if (tag == "eng_Latn") != _devanagari(tokens)}
        for tokens in (known, made)
    )
    if not reads or not writes:
        raise ModelFault(f"{folder.name}: not IndicTrans2: its vocabulary lacks the tags of its languages")
    return Family(name=INDIC, tags=reads, writes=writes, own_end=own_end, known=frozenset(known))


def _devanagari(tokens: Collection[str]) -> bool:
    """Whether a vocabulary is of the languages of India."""
    written = sum(any("\u0900" <= letter <= "\u097f" for letter in token) for token in tokens)
    return written > WRITTEN * len(tokens)


def vocabulary(folder: Path, side: str = "source") -> set[str]:
    """The tokens of a model of CTranslate2's, in either of the forms that its versions wrote.

    Raises:
        OSError, ValueError: there is none, or it is damaged.
    """
    for name in ("shared_vocabulary", f"{side}_vocabulary"):
        if (path := folder / f"{name}.json").is_file():
            tokens = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
                raise ValueError(f"{path.name} is not a list of tokens")
            return set(tokens)
        if (path := folder / f"{name}.txt").is_file():
            return set(path.read_text(encoding="utf-8").split("\n"))
    raise FileNotFoundError(f"no {side} vocabulary")


def require_fit(folder: Path, pieces: Sequence[str], known: frozenset[str] | set[str]) -> None:
    """Refuse a SentencePiece model of another model.

    Args:
        pieces: all of its pieces.

    Raises:
        ModelFault: too few of them are in the model's vocabulary.
    """
    there = sum(piece in known for piece in pieces)
    if there < FITTING * len(pieces):
        raise ModelFault(
            f"{folder.name}: its SentencePiece model doesn't fit: {there} of its {len(pieces)} pieces are in the vocabulary"
        )


def parts(text: str, pieces: Pieces, longest: int) -> list[str]:
    """A text in parts of at most ``longest`` pieces, cut behind a sentence where that can be, else between words."""
    if len(pieces(text)) <= longest or len(text) < 2:
        return [text]
    middle = len(text) // 2
    for marks in (".!?…。！？।", ",;:，、；：—", " "):
        cuts = [k + 1 for k, letter in enumerate(text[:-1]) if letter in marks]
        fitting = [cut for cut in cuts if len(text) // 5 < cut < len(text) * 4 // 5]
        if fitting:
            middle = min(fitting, key=lambda cut: abs(cut - len(text) // 2))
            break
    return [part for half in (text[:middle], text[middle:]) for part in parts(half.strip(), pieces, longest) if part]
