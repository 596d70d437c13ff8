"""Run in the peer's environment: English sentences on standard input, a line of JSON for each language.

The words that the stage makes of texts for IndicTrans2 stand beside those of the libraries which its authors use:
indic_nlp_library's normalisers, tokenizer and transliterator, and sacremoses' Moses. Texts of the languages of India are made
of each script's own syllables. Then CTranslate2 loads a small random model in the authors' layout, and the stage translates.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from ctranslate2.specs.model_spec import visit_spec
from ctranslate2.specs.transformer_spec import TransformerSpec
from indicnlp.normalize.indic_normalize import IndicNormalizerFactory
from indicnlp.tokenize.indic_detokenize import trivial_detokenize
from indicnlp.tokenize.indic_tokenize import trivial_tokenize
from indicnlp.transliterate.unicode_transliterate import UnicodeIndicTransliterator
from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in ("stages", "stages/translate")]

import indic  # noqa: E402
import nmt  # noqa: E402

LANGUAGES = {
    "asm_Beng": "as",
    "ben_Beng": "bn",
    "guj_Gujr": "gu",
    "hin_Deva": "hi",
    "kan_Knda": "kn",
    "mal_Mlym": "ml",
    "mar_Deva": "mr",
    "npi_Deva": "ne",
    "pan_Guru": "pa",
    "san_Deva": "sa",
    "tam_Taml": "ta",
    "tel_Telu": "te",
}
"""FLORES-200's tags -> indic_nlp_library's codes."""

BETWEEN = (
    "12",
    "3.5",
    "1,000",
    "50%",
    "x",
    "OK",
    "-",
    "–",
    "…",
    "!",
    "?",
    ",",
    ".",
    "।",
    "|",
    ":",
    "₹500",
    "&",
    "—",
    "'s",
)
"""What stands among words, or at one."""

AROUND = ("({})", '"{}"', "‘{}’", "“{}”")

DIMENSION, LAYERS, PIECES = 32, 2, 800


def syllables(start: int, chance: random.Random) -> str:
    """A word of a script's letters, as they may follow each other."""

    def some(first: int, last: int, kinds: str) -> list[str]:
        letters = [chr(start + k) for k in range(first, last + 1)]
        return [letter for letter in letters if unicodedata.category(letter)[0] in kinds]

    signs = [*some(0x3E, 0x4D, "M"), "", "", "", ""]
    word = "".join(chance.choice(some(0x15, 0x39, "L")) + chance.choice(signs) for _ in range(chance.randint(1, 4)))
    return chance.choice([*some(0x05, 0x14, "L"), *[""] * 9]) + word + chance.choice(["", "", "", chr(start + 2)])


def made(tag: str, count: int) -> list[str]:
    """Texts in a language's script, with punctuation and numbers in them."""
    chance, start = random.Random(tag), indic.BLOCKS[indic.script(tag)]
    texts = []
    for _ in range(count):
        words = []
        for _ in range(chance.randint(3, 14)):
            word, kind = syllables(start, chance), chance.random()
            if kind < 0.1:
                word = chance.choice(AROUND).format(word)
            elif kind < 0.3:
                word = chance.choice(["", word]) + chance.choice(BETWEEN)
            words.append(word)
        texts.append(" ".join(words))
    return texts


def theirs(tag: str) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """There and back, as the authors' processor asks the libraries; punctuation before that is the stage's."""
    if tag == "eng_Latn":
        normal, cut, join = MosesPunctNormalizer(), MosesTokenizer(lang="en"), MosesDetokenizer(lang="en")
        return (
            lambda text: " ".join(cut.tokenize(normal.normalize(indic.punctuation(text)), escape=False)),
            lambda text: str(join.detokenize(text.split(" "))),
        )
    code, moved = LANGUAGES[tag], UnicodeIndicTransliterator.transliterate
    normaliser = IndicNormalizerFactory().get_normalizer(code)

    def there(text: str) -> str:
        text = normaliser.normalize(indic.digits(indic.punctuation(text)))
        return str(moved(" ".join(trivial_tokenize(text, code)), code, "hi")).replace(" \u094d ", "\u094d")

    return there, lambda text: str(trivial_detokenize(moved(text, "hi", code), code))


def words(tag: str, texts: Sequence[str], told: Sequence[str]) -> dict[str, Any]:
    """How many texts are alike on the way there, and ``told`` on the way back."""
    there, back = theirs(tag)
    return {
        "language": tag,
        "count": len(texts),
        "there": sum(there(text) == indic.prepared(text, tag, hold=False)[0] for text in texts),
        "told": len(told),
        "back": sum(back(text) == indic.readable(text, tag) for text in told),
    }


def random_model(folder: Path, sources: Sequence[str], targets: Sequence[str]) -> None:
    """A small random model in the authors' layout: vocab/model.SRC, vocab/model.TGT, and what fairseq's converter writes."""
    (folder / "vocab").mkdir(parents=True)
    spec = TransformerSpec.from_config((LAYERS, LAYERS), 4, pre_norm=True)
    sizes = {}
    for side, texts in (("SRC", sources), ("TGT", targets)):
        (folder / "texts").write_text("\n".join(texts))
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "texts"),
            model_prefix=str(folder / "vocab" / side),
            vocab_size=PIECES,
            model_type="bpe",
            character_coverage=1.0,
            minloglevel=2,
        )
        (folder / "vocab" / f"{side}.model").rename(folder / "vocab" / f"model.{side}")
        pieces = sentencepiece.SentencePieceProcessor(str(folder / "vocab" / f"model.{side}"))
        tokens = ["<s>", "<blank>", "</s>", "<unk>", *(pieces.id_to_piece(k) for k in range(3, PIECES))]
        tokens += ["eng_Latn", *LANGUAGES] if side == "SRC" else []
        (spec.register_source_vocabulary if side == "SRC" else spec.register_target_vocabulary)(tokens)
        sizes[side] = len(tokens)
    wide, chance = DIMENSION, np.random.default_rng(16)
    shapes = {
        "encoder/embeddings_0/weight": (sizes["SRC"], wide),
        "decoder/embeddings/weight": (sizes["TGT"], wide),
        "projection/weight": (sizes["TGT"], wide),
        "self_attention/linear_0/weight": (3 * wide, wide),
        "/attention/linear_1/weight": (2 * wide, wide),
        "ffn/linear_0/weight": (4 * wide, wide),
        "ffn/linear_1/weight": (wide, 4 * wide),
        "weight": (wide, wide),
        "gamma": (wide,),
        "beta": (wide,),
    }

    def fill(owner: Any, name: str, value: Any) -> None:
        if value is None:
            shape = next(shape for end, shape in shapes.items() if name.endswith(end))
            setattr(owner, name.rpartition("/")[2], chance.normal(0, 1, shape).astype(np.float32))

    visit_spec(spec, fill)
    spec.config.decoder_start_token, spec.config.add_source_eos = "</s>", True
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))


def translated(folder: Path, english: Sequence[str], hindi: Sequence[str]) -> dict[str, Any]:
    """What the stage makes with random models of both ways: of each text something, and what is held in each."""
    asked = [f"{text} (see www.example.org/{k})" for k, text in enumerate(english[:20])]
    kept = 0
    for name, sides, pair, texts in (
        ("en-indic", (english, hindi), ("en", "hi"), asked),
        ("indic-en", (hindi, english), ("ta", "en"), [indic.into(text, "Taml") for text in hindi[:20]]),
    ):
        random_model(folder / name, *sides)
        model = nmt.load({"beam_size": 2}, folder / name)
        held = [f"{text} \ue000" for text in texts]
        kept += sum(
            "\ue000" in text and len(text) > 1 for text in model.translate(held, source=pair[0], target=pair[1])
        )
    return {"translated": 2 * 20, "kept": kept}


def main() -> None:
    folder, count, sentences = Path(sys.argv[1]), int(sys.argv[2]), json.load(sys.stdin)
    english = [indic.prepared(text, "eng_Latn", hold=False)[0] for text in sentences]
    hindi = [indic.prepared(text, "hin_Deva", hold=False)[0] for text in made("hin_Deva", count)]
    print(json.dumps(words("eng_Latn", sentences, english)), flush=True)
    for tag in LANGUAGES:
        print(json.dumps(words(tag, made(tag, count), hindi)), flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(translated(folder, english, hindi)), flush=True)


if __name__ == "__main__":
    main()
