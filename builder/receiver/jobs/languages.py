"""Languages as people write them: codes, regions, names. Pure.

Whisper has codes of its own for two hundred spellings of a hundred languages. What people type is ISO 639-1 or 639-2, a
tag of BCP 47 or a locale (``en-US``, ``pt_BR.UTF-8``), an English name, or the code of a country that speaks one.
"""

from __future__ import annotations

import re

DETECT = frozenset({"", "auto", "automatic", "detect", "detected", "none", "any", "unknown", "und", "mul"})
"""Words that ask for the language to be found out."""

TABLE = """
af afr Afrikaans|am amh Amharic|ar ara Arabic|as asm Assamese|az aze Azerbaijani|ba bak Bashkir|be bel Belarusian
bg bul Bulgarian|bn ben Bengali, Bangla|bo bod tib Tibetan|br bre Breton|bs bos Bosnian|ca cat Catalan, Valencian
cs ces cze Czech|cy cym wel Welsh|da dan Danish|de deu ger German|el ell gre Greek|en eng English
es spa Spanish, Castilian|et est Estonian|eu eus baq Basque|fa fas per Persian, Farsi|fi fin Finnish|fo fao Faroese
fr fra fre French|gl glg Galician|gu guj Gujarati|ha hau Hausa|haw haw Hawaiian|he heb Hebrew|hi hin Hindi
hr hrv Croatian|ht hat Haitian Creole, Haitian|hu hun Hungarian|hy hye arm Armenian|id ind Indonesian
is isl ice Icelandic|it ita Italian|ja jpn Japanese|jw jav Javanese|ka kat geo Georgian|kk kaz Kazakh|km khm Khmer
kn kan Kannada|ko kor Korean|la lat Latin|lb ltz Luxembourgish, Letzeburgesch|ln lin Lingala|lo lao Lao
lt lit Lithuanian|lv lav Latvian|mg mlg Malagasy|mi mri mao Maori|mk mkd mac Macedonian|ml mal Malayalam
mn mon Mongolian|mr mar Marathi|ms msa may Malay|mt mlt Maltese|my mya bur Myanmar, Burmese|ne nep Nepali
nl nld dut Dutch, Flemish|nn nno Nynorsk, Norwegian Nynorsk|no nor nob Norwegian, Bokmål, Norwegian Bokmål|oc oci Occitan
pa pan Punjabi, Panjabi|pl pol Polish|ps pus Pashto, Pushto|pt por Portuguese|ro ron rum mol Romanian, Moldavian, Moldovan
ru rus Russian|sa san Sanskrit|sd snd Sindhi|si sin Sinhala, Sinhalese|sk slk slo Slovak|sl slv Slovenian, Slovene
sn sna Shona|so som Somali|sq sqi alb Albanian|sr srp Serbian|su sun Sundanese|sv swe Swedish|sw swa swh Swahili
ta tam Tamil|te tel Telugu|tg tgk Tajik|th tha Thai|tk tuk Turkmen|tl tgl fil Tagalog, Filipino|tr tur Turkish|tt tat Tatar
uk ukr Ukrainian|ur urd Urdu|uz uzb Uzbek|vi vie Vietnamese|yi yid Yiddish|yo yor Yoruba
yue yue Cantonese|zh zho chi cmn Chinese, Mandarin
"""
"""Whisper's code, those of ISO 639-2 and 639-3, and English names. Codes: the Library of Congress's list of ISO 639-2."""

OTHERS = {
    # Codes that were withdrawn, or that Whisper spells in its own way.
    "iw": "he",
    "in": "id",
    "ji": "yi",
    "jv": "jw",
    "mo": "ro",
    "nb": "no",
    # Countries, where no language has the code.
    "jp": "ja",
    "cn": "zh",
    "tw": "zh",
    "kr": "ko",
    "cz": "cs",
    "gr": "el",
    "dk": "da",
    "ua": "uk",
    "rs": "sr",
    "il": "he",
    "ir": "fa",
    "gb": "en",
    "us": "en",
    "vn": "vi",
    "mx": "es",
}


def _known() -> dict[str, str]:
    known = dict(OTHERS)
    for entry in TABLE.replace("\n", "|").strip("|").split("|"):
        codes, names = re.fullmatch(r"((?:[a-z]+ )+)(.+)", entry).groups()  # type: ignore[union-attr]
        own, *others = codes.split()
        known |= {word.lower(): own for word in (own, *others, *names.split(", "))}
    return known


KNOWN = _known()
"""Lower-case code or name -> Whisper's code."""

LANGUAGES = frozenset(KNOWN.values())
"""What Whisper's large-v3 knows (yue is new in it); OpenAI's and faster-whisper's tokenizers agree."""


def code_of(text: str) -> str | None:
    """Whisper's code of the language that somebody means; None where it is to be detected.

    Raises:
        LookupError: nobody knows it.
    """
    plain = " ".join(text.strip().lower().split())
    if plain in DETECT:
        return None
    if plain in KNOWN:
        return KNOWN[plain]
    language, *subtags = re.split(r"[-_.@]", plain)  # BCP 47, or a locale
    if language == "zh" and "yue" in subtags:  # an extended language
        return "yue"
    if language in KNOWN and re.fullmatch(r"[a-z]{2,3}", language):
        return KNOWN[language]
    raise LookupError(text)
