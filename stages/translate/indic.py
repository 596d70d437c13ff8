"""How IndicTrans2 wants its texts, and how they become readable again: the rules that its authors publish with it. Pure.

Gala et al., "IndicTrans2" (TMLR, 2023), and the processor that they name for it (IndicTransToolkit): punctuation, numerals,
what is not translated, words apart from their marks, and one script, Devanagari, for all that have Unicode's common layout of
the scripts of India. English is cut as Moses cuts it. The normalisers are those of indic_nlp_library 0.92, which the authors'
engine has; the copy that the processor takes from the package index (indic-nlp-library-itt 0.1.1) writes the dot below a letter
as an escape, and finds no visarga.

Each rule reads a text once, whoever wrote it.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence

ENGLISH = "Latn"

DEVANAGARI = 0x0900

BLOCKS = {"Deva": DEVANAGARI, "Beng": 0x0980, "Guru": 0x0A00, "Gujr": 0x0A80, "Taml": 0x0B80}
BLOCKS |= {"Telu": 0x0C00, "Knda": 0x0C80, "Mlym": 0x0D00}
"""Scripts -> where Unicode has them; all have like letters at like places (ISCII's)."""

COMMON = 0x70
"""Letters of a block that have the same place in each."""

DANDAS = "।॥"
"""Ends of sentences and verses, for all scripts in Devanagari's block."""

APART = f"[{re.escape(string.punctuation)}{DANDAS}]"
ARABIC = f"[{re.escape(string.punctuation)}؉؊،؞٪٫٬٭۔؛؟]"
"""Marks that stand by themselves."""

MARKED = r"\w\u0900-\u0963\u0970-\u0d7f\u064b-\u065f"
"""Letters and the signs that belong to them: to Python's pattern for a letter these are none."""

NUMBER = r"\d{1,20}(?!\d)(?:\.\d{0,20}(?!\d))?"

ENTITY = re.compile(
    r"[\ue000-\uf8ff]+"  # the stage's own placeholders
    r"|(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,200}\.[A-Za-z]{2,20}"
    rf"|(?P<url>(?<![{MARKED}./-])(?:(?:https?|ftp)://)?(?:[{MARKED}-]{{1,64}}\.){{1,20}}(?!\.)"
    rf"[{MARKED}/?#&=%.-]{{0,300}}[{MARKED}](?!\.?[{MARKED}]))"
    rf"|(?P<number>(?<!\d)(?:~?{NUMBER}(?:\s?%?\s?-?\s?~?{NUMBER})?\s?%"
    r"|\d{1,20}[-/.,:']\d{1,20}[-/.,:'+]\d{1,20}(?:\.\d{1,20})?|\d{1,20}[-/.:'+]\d{1,20}(?:\.\d{1,20})?))"
    r"|(?<![A-Za-z0-9])[A-Za-z0-9]{0,64}[#|@]\w{1,200}"
)
"""What is not translated: addresses, numbers of several parts, handles."""

SHORTEST = 4
"""Letters of an address or a number, without its dots, that it stands by itself from."""

SPELT = r"आ[ईयइ]\s?\.?\s?ड[ीि]\s?\.?|ऐ[डट]ि|آ(?:ئ)?ی ڈی|ꯑꯥꯏꯗꯤ|ᱟᱭᱰᱤ(?:\s?᱾)?"
"""``ID`` as the model spells it in one script or another."""

NAMED = re.compile(rf"[<\[]\s?(?:ID|id|{SPELT})\s?(\d{{1,4}})\s?[>\]]|(?:{SPELT})\s?(\d{{1,4}})(?!\d)")
"""``<ID1>`` as it comes back."""

UNSEEN = dict.fromkeys(map(ord, "\ufeff\ufffe\u2060\u00ad\u200c\u200d")) | {0x200B: " ", 0x00A0: " "}
"""Letters that show nothing."""

QUOTES = str.maketrans(dict.fromkeys("`´‘‚’", "'") | dict.fromkeys("„“”«»", '"') | dict.fromkeys("–—", "-"))

CARRIERS = {
    "\u0a05\u0a3e": "\u0a06", "\u0a72\u0a3f": "\u0a07", "\u0a72\u0a40": "\u0a08", "\u0a73\u0a41": "\u0a09",
    "\u0a73\u0a42": "\u0a0a", "\u0a72\u0a47": "\u0a0f", "\u0a05\u0a48": "\u0a10", "\u0a73\u0a4b": "\u0a13",
    "\u0a05\u0a4c": "\u0a14",
}  # fmt: skip
"""Gurmukhi's vowels in two parts."""

CHILLUS = dict(zip("\u0d23\u0d28\u0d30\u0d32\u0d33\u0d15", "\u0d7a\u0d7b\u0d7c\u0d7d\u0d7e\u0d7f", strict=True))
"""Malayalam's letters -> their forms without a vowel, once written with a joiner."""

URDU = str.maketrans("كهةىي", "کہۃیی", "ـ\u064e\u064b\u0670\u0650\u064f\u064d")
"""Arabic letters as Urdu has them; marks of vowels are left out."""

TITLES = """
Adj Adm Adv Asst Bart Bldg Brig Bros Capt Cmdr Col Comdr Con Corp Cpl DR Dr Drs Ens Gen Gov Hon Hr Hosp Insp Lt MM MR MRS MS
Maj Messrs Mlle Mme Mr Mrs Ms Msgr Op Ord Pfc Ph Prof Pvt Rep Reps Res Rev Rt Sen Sens Sfc Sgt Sr St Supt Surg v vs i.e rev
e.g Nos Nr
"""

BEFORE = frozenset(TITLES.split()) | frozenset(string.ascii_uppercase)
"""What a full stop belongs to in English."""

COUNTED = frozenset({"No", "Art", "pp"})
"""And before a number."""


def script(tag: str) -> str:
    """The script of a tag of FLORES-200's: ``Deva`` of ``hin_Deva``."""
    return tag.partition("_")[2]


def prepared(text: str, tag: str, *, hold: bool = True) -> tuple[str, list[str]]:
    """A text as the model reads it, and what ``<ID1>``, ``<ID2>`` … in it stand for.

    Args:
        tag: the language of the text.
        hold: addresses, numbers of several parts, handles and the stage's placeholders are not translated.
    """
    text = digits(punctuation(text))
    held: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        short = found.lastgroup and len(re.sub("[ .:]", "", found[0])) < SHORTEST
        return found[0] if short else held.setdefault(found[0], f"<ID{len(held) + 1}>")

    if hold:
        text = ENTITY.sub(name, text)
    if script(tag) == ENGLISH:
        return english(text), list(held)
    return indic(text, script(tag)), list(held)


def readable(text: str, tag: str, held: Sequence[str] = ()) -> str:
    """A translation as it is written: in its own script, marks at their words, and what was held in its place."""
    if script(tag) == ENGLISH:
        text = joined_english(text)
    else:
        if script(tag) == "Arab":
            text = re.sub(r" ([؟۔،])", r"\1", text).replace("ٮ۪", "ؠ")
        text = joined(into(text, script(tag)))

    def back(found: re.Match[str]) -> str:
        number = int(found[1] or found[2])
        return held[number - 1] if 0 < number <= len(held) else found[0]

    return NAMED.sub(back, text) if held else text


def punctuation(text: str) -> str:
    """One sign for each mark of punctuation, and no spaces within brackets or before marks."""
    text = re.sub(r"(\d)\u00a0(\d)", r"\1.\2", text)
    text = re.sub(r"\u00a0([%?!;])", r"\1", text)
    text = " ".join(text.translate(QUOTES).split())
    for pattern, wanted in (
        (r"\( ", "("),
        (r" \)", ")"),
        (r" ([:;]) ?", r"\1"),
        (r"\) ([.!:?;,])", r")\1"),
        (r"(\d) %", r"\1%"),
        (r'"([,.]+)', r'\1"'),
    ):
        text = re.sub(pattern, wanted, text)
    return text


def digits(text: str) -> str:
    """Numerals of all scripts as 0 to 9."""
    return "".join(c if c.isascii() or (value := unicodedata.decimal(c, None)) is None else str(value) for c in text)


def indic(text: str, name: str) -> str:
    """A text of a script of India, words and marks apart: in Devanagari, where the script has its layout."""
    text = arabic(text) if name == "Arab" else normal(text, name)
    text = " ".join(re.sub(ARABIC if name == "Arab" else APART, r" \g<0> ", text).split())
    if name == "Arab":
        return text
    first, text = text[:1], text[1:]  # the published rule leaves numbers apart that the text begins with
    text = first + re.sub(r"(?<!\d)\d+(?: [,.:/] \d+)+", lambda found: found[0].replace(" ", ""), text)
    if name not in BLOCKS:
        return text
    return _moved(text, BLOCKS[name], DEVANAGARI).replace(" \u094d ", "\u094d")


def into(text: str, name: str) -> str:
    """A text in Devanagari in another script that has its layout; other scripts stay."""
    if name not in BLOCKS:
        return text
    return _moved(_tamil(text) if name == "Taml" else text, DEVANAGARI, BLOCKS[name])


def _moved(text: str, start: int, end: int) -> str:
    if start == end:
        return text
    return "".join(
        chr(ord(c) - start + end) if start <= ord(c) < start + COMMON and c not in DANDAS else c for c in text
    )


def _tamil(text: str) -> str:
    """Devanagari with the consonants alone that Tamil has: one for each place of the mouth, and its nasal."""

    def plain(letter: str) -> str:
        place = ord(letter) - DEVANAGARI
        row, column = divmod(place - 0x15, 5)
        if 0x15 <= place <= 0x28 and place != 0x1C and column in (1, 2, 3):
            place = 0x15 + 5 * row
        elif place in (0x2B, 0x2C, 0x2D):
            place = 0x2A
        elif place == 0x36:
            place = 0x37
        return chr(DEVANAGARI + place) if 0 <= place < COMMON else letter

    return "".join(map(plain, text))


def normal(text: str, name: str) -> str:
    """One spelling for what Unicode spells in several ways, dots below apart from their letters.

    Unicode's own form C is what the published normalisers (indic_nlp_library's) do by tables, but for the few that follow.
    """
    for letter, alone in CHILLUS.items() if name == "Mlym" else ():
        text = text.replace(f"{letter}\u0d4d\u200d", alone)
    for parts, whole in CARRIERS.items() if name == "Guru" else ():
        text = text.replace(parts, whole)
    text = text.translate(UNSEEN).replace("…", "...").replace("''", '"')
    text = unicodedata.normalize("NFC", text)
    block = BLOCKS.get(name)
    if block is None:
        return text
    text = text.replace(chr(block + 0x64), DANDAS[0]).replace(chr(block + 0x65), DANDAS[1])
    if name in ("Deva", "Beng", "Guru"):
        text = text.replace("|", DANDAS[0])
    if name == "Deva":
        text = text.replace("\u0972", "\u090f")
        text = re.sub("[\u0929\u0931\u0934]", lambda found: unicodedata.normalize("NFD", found[0]), text)
    text = text.replace("\u09f7", DANDAS[0]).replace("\u0d57", "\u0d4c")
    return re.sub(f"([{chr(block)}-{chr(block + 0x7F)}]):", rf"\1{chr(block + 3)}", text)


def arabic(text: str) -> str:
    """Urdu's own letters, and spaces between these and numbers, Latin letters and marks."""
    text = text.replace("…", "...")
    text = "".join(unicodedata.normalize("NFKC", c) if "\ufb50" <= c <= "\ufefe" else c for c in text.translate(UNSEEN))
    text = unicodedata.normalize("NFC", text.translate(URDU))
    text = re.sub(r"(?<=[\u0600-\u06ff])(?=[0-9A-Za-z])", " ", text)
    return re.sub(r"(?<=[0-9A-Za-z])(?=[\u0600-\u06ff])", " ", text)


def joined(text: str) -> str:
    """A text of a script of India with its marks at their words."""
    head, text = text[:1], text[1:]
    text = head + re.sub(r"(?<!\d)\d+(?: [,.:/] \d+)+", lambda found: found[0].replace(" ", ""), text)
    text = re.sub(r" ([-/\\]) ", r"\1", text)
    text = re.sub(rf" ([!%)\]}},.:;>?{DANDAS}])", r"\1", text)
    text = re.sub(r"([#$(\[{<@]) ", r"\1", text)
    for quote in "'\"`":
        parts = text.split(quote)
        for k in range(1, len(parts)):  # the first opens, the second closes
            if k % 2:
                parts[k] = parts[k].removeprefix(" ")
            else:
                parts[k - 1] = parts[k - 1].removesuffix(" ")
        text = quote.join(parts)
    return text


def english(text: str) -> str:
    """English in Moses' words (Koehn et al., 2007): marks apart, but within numbers and of abbreviations."""
    text = re.sub(r"([^\W_])‘([^\W_])", r"\1'\2", text.replace("''", '"').replace("…", "..."))
    text = re.sub(r"[^\w\s.'`,-]|_", r" \g<0> ", text)
    text = re.sub(r"\.{2,}", r" \g<0> ", text)
    text = re.sub(r"(?<!\d),|,(?!\d)", " , ", text)
    text = re.sub(r"(?<=[^\W\d_])'(?=[^\W\d_])|(?<=\d)'(?=s)", " '", text)
    text = re.sub(r"(?<![^\W_\d])'(?![^\W_\d])|(?<![\w'])(?<! )'(?=\w)|(?<=[^\W\d_])'(?![^\W\d_])", " ' ", text)
    words = text.split()
    for k, word in enumerate(words):
        if word.endswith(".") and set(word) != {"."} and not _abbreviated(word[:-1], words[k + 1 : k + 2]):
            words[k] = f"{word[:-1]} ."
    return " ".join(words)


def _abbreviated(word: str, after: Sequence[str]) -> bool:
    """Whether a full stop belongs to the word before it.

    Args:
        after: the next word, where there is one.
    """
    if ("." in word and any(c.isalpha() for c in word)) or word in BEFORE:
        return True
    return bool(after) and (after[0][0].islower() or (word in COUNTED and after[0][0].isdigit()))


def joined_english(text: str) -> str:
    """English of Moses' words as it is written."""
    made, space, open_ = "", "", {"'": False, '"': False, "`": False}
    words = text.split()
    for k, word in enumerate(words):
        before, space = space, " "
        if all(c in "([{¿¡" or unicodedata.category(c) == "Sc" for c in word):
            space = ""
        elif all(c in ",.?!:;\\%}])" for c in word) or (k and len(word) > 1 and word[0] == "'" and word[1].isalpha()):
            before = ""
        elif set(word) <= set("'\"`") and (quote := word[0]):
            if open_[quote]:
                before, open_[quote] = "", False
            elif word == "'" and k and words[k - 1].endswith("s"):
                before = ""
            else:
                space, open_[quote] = "", True
        made += before + word
    return made
