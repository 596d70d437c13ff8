"""Languages as people write them: codes, regions, names. Pure.

Whisper has codes of its own for two hundred spellings of a hundred languages. What people type is ISO 639-1 or 639-2, a
tag of BCP 47 or a locale (``en-US``, ``pt_BR.UTF-8``), an English name, or the code of a country that speaks one.
"""

from __future__ import annotations

import re
import unicodedata

DETECT = frozenset({"", "auto", "automatic", "detect", "detected", "none", "any", "unknown", "und", "mul"})
"""Words that ask for the language to be found out."""

EACH = "auto-segments"
"""What asks for the language of each window of sound (stages/asr/tongues.py)."""

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

OWN_NAMES = """
af Afrikaans|am አማርኛ|ar العربية, عربي|as অসমীয়া|az Azərbaycanca, Azərbaycan dili|ba Башҡортса|be Беларуская|bg Български
bn বাংলা|bo བོད་ཡིག|br Brezhoneg|bs Bosanski|ca Català, Valencià|cs Čeština, Česky|cy Cymraeg|da Dansk|de Deutsch|el Ελληνικά
es Español, Castellano|et Eesti|eu Euskara|fa فارسی|fi Suomi|fo Føroyskt|fr Français|gl Galego|gu ગુજરાતી|haw ʻŌlelo Hawaiʻi
he עברית|hi हिन्दी, हिंदी|hr Hrvatski|ht Kreyòl, Kreyòl ayisyen|hu Magyar|hy Հայերեն|id Bahasa Indonesia|is Íslenska|it Italiano
ja 日本語|jw Basa Jawa|ka ქართული|kk Қазақша, Қазақ тілі|km ខ្មែរ|kn ಕನ್ನಡ|ko 한국어, 한국말|la Latina|lb Lëtzebuergesch|lo ລາວ
lt Lietuvių|lv Latviešu|mk Македонски|ml മലയാളം|mn Монгол|mr मराठी|ms Bahasa Melayu|mt Malti|my မြန်မာ|ne नेपाली
nl Nederlands, Vlaams|nn Norsk nynorsk|no Norsk, Norsk bokmål|pa ਪੰਜਾਬੀ|pl Polski|ps پښتو|pt Português|ro Română|ru Русский
sa संस्कृतम्|sd سنڌي|si සිංහල|sk Slovenčina, Slovensky|sl Slovenščina|so Soomaali|sq Shqip|sr Српски, Srpski|su Basa Sunda
sv Svenska|sw Kiswahili|ta தமிழ்|te తెలుగు|tg Тоҷикӣ|th ไทย, ภาษาไทย|tk Türkmençe|tr Türkçe|tt Татарча|uk Українська|ur اردو
uz Oʻzbekcha, Ozbekcha|vi Tiếng Việt|yi ייִדיש|yo Yorùbá
yue 粵語, 粤语, 廣東話, 广东话|zh 中文, 汉语, 漢語, 普通话, 普通話, 國語, 国语
"""
"""Names in the languages themselves (CLDR's, and others that people write)."""

VARIETIES = frozenset(
    {"american", "australian", "austrian", "brazilian", "british", "canadian", "european", "indian", "irish", "latin"}
    | {"mexican", "modern", "scottish", "simplified", "standard", "swiss", "traditional", "us", "uk"}
)
"""Words before a name that say which kind of a language it is: Whisper has one for all."""

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
    for table in (OWN_NAMES, TABLE):
        for entry in table.replace("\n", "|").strip("|").split("|"):
            codes, names = re.fullmatch(r"((?:[a-z]+ )+)(.+)", entry).groups()  # type: ignore[union-attr]
            own, *others = codes.split()
            words = (own, *others, *names.split(", "))
            known |= {
                spelled: own for word in words for spelled in (_one_spelling(word), _unmarked(_one_spelling(word)))
            }
    return known


def _one_spelling(text: str) -> str:
    """One spelling of what looks alike: composed, in small letters, with single spaces."""
    # Small letters of what has a dot in Turkish have a mark; so composed again.
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFKC", text).lower().split()))


def _unmarked(text: str) -> str:
    """Latin letters without their marks, as keyboards lack them: francais."""
    apart = unicodedata.normalize("NFD", text)
    if not apart[:1].isascii():
        return text
    return "".join(sign for sign in apart if sign.isascii())


KNOWN = _known()
"""Code or name, as :func:`_one_spelling` -> Whisper's code."""

LANGUAGES = frozenset(KNOWN.values())
"""What Whisper's large-v3 knows (yue is new in it); OpenAI's and faster-whisper's tokenizers agree."""


def _without_variety(text: str) -> str:
    """A name without what says which kind of the language it is: ``brazilian portuguese``, ``chinese (simplified)``."""
    kind, _, name = re.sub(r" ?\([^()]*\)$", "", text).rpartition(" ")
    return name if set(kind.split()) <= VARIETIES else ""


LONGEST_LANGUAGE = 100
"""Characters of what may be a language."""


def code_of(text: str) -> str | None:
    """Whisper's code of the language that somebody means; None where it is to be detected, or :data:`EACH`.

    Raises:
        LookupError: nobody knows it.
    """
    plain = _one_spelling(text[:LONGEST_LANGUAGE])
    if plain in DETECT:
        return None
    if plain == EACH:
        return EACH
    for name in (plain, _unmarked(plain), _without_variety(plain)):
        if name in KNOWN:
            return KNOWN[name]
    language, *subtags = re.split(r"[-_.@]", plain)  # BCP 47, or a locale
    if language == "zh" and "yue" in subtags:  # an extended language
        return "yue"
    if language in KNOWN and re.fullmatch(r"[a-z]{2,3}", language):
        return KNOWN[language]
    raise LookupError(text)
