"""Where text may be broken: sentence ends, and how bad a break between two words is, by language and script. Pure.

The order of preference is the one of subtitlers' guides (BBC Subtitle Guidelines, "Line breaks"; Ivarsson and Carroll, Code of
Good Subtitling Practice): after a mark, before a conjunction or preposition, not after an article, and nothing that is one word
to the reader is divided. Lists have the most frequent words only.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

ENDS = (".", "?", "!", "…", "。", "？", "！", "।", "؟", "۔")
"""Marks that end a sentence."""

MARKS = (
    ",",
    ";",
    ":",
    "-",
    "–",
    "—",
    "、",
    "，",
    "；",
    "：",
    "،",
    "؛",
    "।",
    "۔",
    "؟",
    ".",
    "?",
    "!",
    "…",
    "。",
    "？",
    "！",
)
"""Marks after which a cue or a line ends well."""

CLOSERS = "\"'”’»)]}」』）"

PAUSE = 0.3
"""Seconds of silence that divide as well as a mark does."""

FREE, BEFORE_HEAD, LOOSE, NAME, CLINGING, NEVER = 0.0, 6.0, 25.0, 40.0, 60.0, 1000.0
"""Prices of a break: after a mark; before a preposition or conjunction; within a phrase; within a name; after a word that
belongs to the next; within what is one word to the reader."""

_TITLES = "mr. mrs. ms. dr. st. prof. sr. jr. vs. e.g. i.e."

_TEXTS: dict[str, tuple[str, str, str]] = {
    "en": (
        f"{_TITLES} gen. col. lt. sgt. capt. rev. hon. mt. ft. approx. dept. est. fig.",
        "the a an this that these those my your his her its our their no every each very i i'm he she we they is are was",
        "and but or nor because that which who when where while if so to with of in on at by for from into about as than",
    ),
    "de": (
        "z.b. d.h. u.a. bzw. ca. dr. prof. nr. hr. fr. st. str. inkl. evtl. ggf. sog. vgl. abs. tel.",
        "der die das den dem des ein eine einen einem einer eines kein keine mein meine sein seine ihr ihre unser sehr ich wir",
        "und oder aber denn weil dass ob wenn als wie mit von zu zum zur in im an am auf aus bei für nach über um vor",
    ),
    "fr": (
        "m. mm. mme. mlle. dr. me. st. ste. cf. p.ex. av. env. art. vol.",
        "le la les un une des du au aux ce cet cette ces mon ma mes son sa ses notre votre leur leurs très je tu il elle on",
        "et ou mais car que qui quand où si de à en dans sur sous par pour avec sans chez comme entre vers dont",
    ),
    "es": (
        "sr. sra. srta. dr. dra. d. dña. ud. uds. p.ej. pág. núm. av. ee.uu. aprox.",
        "el la los las un una unos unas lo mi mis tu tus su sus este esta ese esa muy no me te se nos",
        "y e o u pero porque que quien cuando donde si de del a al en con por para sin sobre entre como desde hasta",
    ),
    "it": (
        "sig. sig.ra. dott. dott.ssa. prof. avv. ing. p.es. es. pag. art. ca. s.p.a.",
        "il lo la i gli le un uno una mio mia tuo sua suo questo questa molto non mi ti si ci",
        "e o ma perché che chi quando dove se di del della dei a al alla in nel nella con per da dal su tra fra come",
    ),
    "pt": (
        "sr. sra. srta. dr. dra. prof. profa. exmo. av. pág. p.ex. aprox. d.",
        "o a os as um uma uns umas meu minha seu sua este esta esse essa muito não me te se nos",
        "e ou mas porque que quem quando onde se de do da dos das em no na com por para sem sobre entre como até",
    ),
    "nl": (
        "dhr. mevr. dr. prof. bijv. d.w.z. o.a. enz. ca. nr. blz. mr. ir. st.",
        "de het een deze dit die dat mijn jouw zijn haar ons onze hun geen heel ik je hij ze we",
        "en of maar want omdat dat als toen waar van in op aan met voor bij uit naar over om te door tot",
    ),
    "ru": (
        "г. гг. ул. т.е. т.к. стр. им. руб. тыс. проф.",
        "этот эта это эти мой моя свой не очень я он она мы вы они",
        "и а но или что чтобы как если когда где который в во на с со к по за из от до у о об для при без над под",
    ),
}
"""Language -> abbreviations; words that belong to the next; prepositions and conjunctions, which begin a line well."""

_BEFORE_NUMBERS = {"no.", "nr.", "núm.", "pág.", "pag.", "p.", "pp.", "art.", "fig.", "vol.", "№"}
"""Abbreviations before a number only: "No." is an answer, too."""

_ET_CETERA = {"etc.", "usw.", "ecc.", "enz.", "itd.", "др.", "т.д.", "т.п."}
"""Abbreviations that a sentence may end with."""

_ORDINALS = {"de", "da", "nb", "nn", "no", "fi", "cs", "sk", "pl", "hu", "hr", "sl", "et", "lv", "is"}
"""Languages in which a number with a full stop is an ordinal: "am 3. Mai"."""

_UNIT_WORDS = """
% ‰ ° °c °f $ € £ ¥ km m cm mm kg g mg t l ml h min s ms mb gb tb hz khz mhz ghz w kw mw mph kmh km/h am pm a.m. p.m.
percent thousand million billion dollars euros pounds degrees meters metres kilometers kilometres miles feet inches hours
minutes seconds days weeks months years prozent millionen milliarden euro uhr jahre millions milliards ans heures años anni
"""
_UNITS = frozenset(_UNIT_WORDS.split())

_NUMBER = re.compile(r"[$€£¥#№]?[+-]?\d[\d.,:/]*%?$")
_LETTERS = re.compile(r"(?:[^\W\d_]\.){2,}$")
_COUNTERS = set("年月日号時时分秒人個个名回本枚歳岁度％%円元万億亿千百点點")
_BOUND_ZH = set("的了吗嗎呢吧啊着過过們们地得")
"""Chinese letters that belong to what stands before them."""
_CARRIES_ZH = set("一不很最在把被和跟对對从從向给給")
"""Chinese letters that belong to what follows."""
_LEADS_THAI = set("เแโใไເແໂໃໄ")
"""Vowels that begin a syllable."""


@dataclass(frozen=True)
class Language:
    """What is known of a language; of one that isn't listed, only what all have in common."""

    code: str
    abbreviations: frozenset[str]
    clings: frozenset[str]
    heads: frozenset[str]

    def ends(self, before: str, following: str) -> bool:
        """Whether a sentence ends between two words."""
        bare = before.strip().rstrip(CLOSERS)
        after = following.strip().lstrip("\"'“‘«([¿¡")[:1]
        if not bare.endswith(ENDS):
            return False
        if not bare.endswith((".", "…")):
            return True
        low = bare.lower()
        # "Well... maybe" has a pause, not an end, and "at 5 p.m. they left" has neither.
        if after.islower() and (bare.endswith(("...", "…")) or low in _ET_CETERA or _LETTERS.search(low)):
            return False
        if low in self.abbreviations or (low in _BEFORE_NUMBERS and after.isdigit()):
            return False
        if len(bare) == 2 and bare[0].isupper() and (bare[0] != "I" or self.code != "en"):  # the initial of a name
            return False
        return not (self.code in _ORDINALS and re.fullmatch(r"\d{1,2}\.", bare))

    def clinging(self, before: str, text: str) -> bool:
        """Whether nothing may be broken between two words."""
        return self.price(before, f" {text}", 0.0) >= CLINGING

    def price(self, before: str, text: str, pause: float) -> float:
        """How bad a break between two words is.

        Args:
            text: the second word, with the space before it, if there is one.
            pause: seconds between them.
        """
        first, second = before.strip(), text.strip()
        if not first or not second:
            return FREE
        low, following = first.lower(), second.lower().rstrip(",.;:?!")
        if _NUMBER.fullmatch(first) and (following in _UNITS or second[:1] in _COUNTERS or second[:1].isdigit()):
            return NEVER
        if (low in self.abbreviations or low in _BEFORE_NUMBERS) and not _LETTERS.search(low):
            return NEVER if second[:1].isdigit() or second[:1].isupper() else CLINGING
        if first.rstrip(CLOSERS).endswith(MARKS):
            return FREE
        if pause > PAUSE:  # people hesitate after "the", but the line isn't read there
            return LOOSE if low in self.clings or low in self.heads else FREE
        if not text[:1].isspace() and (_dense(first[-1]) or _dense(second[0])):
            return _between_letters(first[-1], second[0])
        if low in self.clings or low in self.heads or _NUMBER.fullmatch(first):
            return CLINGING
        if following in self.heads or _dense(first[-1]):
            return BEFORE_HEAD
        names = self.code != "de" and first[:1].isupper() and second[:1].isupper()
        return NAME if names else LOOSE


@cache
def language(code: str | None) -> Language:
    """What is known of a language by its code of two letters; None: it isn't known which it is."""
    abbreviations, clings, heads = _TEXTS.get(code or "", (_TITLES, "", ""))
    words = (frozenset(text.split()) for text in (abbreviations, clings, heads))
    return Language(code or "", *words)


UNKNOWN = language(None)


def _dense(char: str) -> bool:
    """Whether a letter is one of a script that is written without spaces."""
    return _script(char) != ""


def _script(char: str) -> str:
    """A letter's class within scripts without spaces: han, hiragana, katakana, thai (and Lao), other; or nothing."""
    code = ord(char)
    if 0x3041 <= code <= 0x309F:
        return "hiragana"
    if 0x30A0 <= code <= 0x30FF or 0xFF66 <= code <= 0xFF9D:
        return "katakana"
    if 0x0E00 <= code <= 0x0EFF:
        return "thai"
    if 0x1000 <= code <= 0x109F or 0x1780 <= code <= 0x17FF:
        return "other"
    if 0xAC00 <= code <= 0xD7FF or 0x1100 <= code <= 0x11FF or 0x3130 <= code <= 0x318F:
        return ""
    return "han" if unicodedata.east_asian_width(char) in "WF" else ""


def _between_letters(before: str, first: str) -> float:
    """The price between two letters that no space divides.

    In Japanese a phrase begins where kanji or katakana follow hiragana; particles and endings, which are hiragana, belong to
    what stands before them. Words of kanji and of katakana stay whole. Thai syllables begin with the vowels that are written
    before a consonant.
    """
    a, b = _script(before), _script(first)
    if (before.isdigit() and first in _COUNTERS) or (a == b == "katakana"):
        return NEVER if before.isdigit() else CLINGING
    if b == "hiragana":
        return NAME if a != "hiragana" else CLINGING - 10
    if a == "hiragana":
        return BEFORE_HEAD
    if first in _BOUND_ZH or before in _CARRIES_ZH:
        return CLINGING
    if b == "thai":
        return LOOSE / 2 if first in _LEADS_THAI else NAME
    return LOOSE / 2 if before in _BOUND_ZH else LOOSE
