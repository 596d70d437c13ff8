"""Run in the peer's environment: sentences on standard input, a line of JSON for each family of models."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import ctranslate2
import sentencepiece
import torch
import transformers
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in ("stages", "stages/translate")]

import nmt  # noqa: E402

DIMENSIONS = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "scale_embedding": True,
}
SPREAD = 6.0
"""Weights are so many times as large as at the start of training: else all tokens are nearly as likely."""

BEAM, LONGEST, BATCH = 4, 24, 16

SPECIAL = ("<pad>", "</s>", "<s>")


def pieces(folder: Path, sentences: list[str], kind: str, size: int) -> Any:
    """A SentencePiece model of these sentences, and its processor."""
    (folder / "sentences.txt").write_text("\n".join(sentences))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "sentences.txt"),
        model_prefix=str(folder / kind),
        vocab_size=size,
        model_type=kind,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(str(folder / f"{kind}.model"))


def words(*processors: Any) -> list[str]:
    """What they cut texts into, each once."""
    return list(dict.fromkeys(p.id_to_piece(k) for p in processors for k in range(3, p.get_piece_size())))


def nllb(folder: Path, shared: Path) -> tuple[Any, Any]:
    shutil.copy(shared / "bpe.model", folder / "sentencepiece.bpe.model")
    path = str(folder / "sentencepiece.bpe.model")
    tokenizer = transformers.NllbTokenizer(path, src_lang="eng_Latn", tgt_lang="spa_Latn")
    config = transformers.M2M100Config(vocab_size=len(tokenizer), decoder_start_token_id=2, **DIMENSIONS)
    return tokenizer, transformers.M2M100ForConditionalGeneration(config)


def m2m(folder: Path, shared: Path) -> tuple[Any, Any]:
    shutil.copy(shared / "bpe.model", folder / "sentencepiece.bpe.model")
    known = ["<s>", "<pad>", "</s>", "<unk>"]
    known += words(sentencepiece.SentencePieceProcessor(str(shared / "bpe.model")))
    (folder / "vocab.json").write_text(json.dumps({token: k for k, token in enumerate(known)}))
    tags = [f"__{code}__" for code in FAIRSEQ_LANGUAGE_CODES["m2m100"]]
    paths = str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model")
    tokenizer = transformers.M2M100Tokenizer(*paths, src_lang="en", tgt_lang="es", additional_special_tokens=tags)
    config = transformers.M2M100Config(vocab_size=len(known) + len(tags) + 8, decoder_start_token_id=2, **DIMENSIONS)
    return tokenizer, transformers.M2M100ForConditionalGeneration(config)


def marian(folder: Path, shared: Path) -> tuple[Any, Any]:
    both = []
    for name, kind in (("source.spm", "bpe"), ("target.spm", "unigram")):
        shutil.copy(shared / f"{kind}.model", folder / name)
        both.append(sentencepiece.SentencePieceProcessor(str(folder / name)))
    known = ["</s>", "<unk>", ">>spa<<", ">>fra<<", *words(*both), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: k for k, token in enumerate(known)}))
    paths = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    tokenizer = transformers.MarianTokenizer(*paths, source_lang="en", target_lang="es")
    pad = len(known) - 1
    config = transformers.MarianConfig(
        vocab_size=len(known), pad_token_id=pad, decoder_start_token_id=pad, eos_token_id=0, **DIMENSIONS
    )
    model = transformers.MarianMTModel(config)
    model.generation_config.bad_words_ids = [[pad]]
    # Marian has no <pad>: Transformers adds it to begin with, and counts its probability in unless it is told to.
    model.generation_config.renormalize_logits = True
    return tokenizer, model


def made(name: str, root: Path) -> tuple[Any, Any, Any]:
    """A family's tokenizer and model of Transformers', and ours."""
    folder, converted = root / name, root / f"{name}-ct2"
    folder.mkdir()
    tokenizer, model = globals()[name](folder, root)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.mul_(SPREAD)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    files = [path.name for path in folder.iterdir() if path.suffix in (".model", ".spm")]
    ctranslate2.converters.TransformersConverter(str(folder), copy_files=files).convert(str(converted))
    # As it is saved: Marian's sinusoids aren't, and must not be larger than what is converted.
    model = type(model).from_pretrained(folder).eval()
    return tokenizer, model, nmt.load({"compute_type": "float32", "beam_size": BEAM}, converted)


def plain(tokens: list[str]) -> list[str]:
    return [token for token in tokens if token not in SPECIAL]


def beside(name: str, root: Path, sentences: list[str]) -> dict[str, Any]:
    tokenizer, model, ours = made(name, root)
    lines = [f">>spa<< {line}" if name == "marian" else line for line in sentences]
    sources = [ours.family.source(ours.reads.encode(line, out_type=str), "en", "es") for line in sentences]
    theirs = [tokenizer.convert_ids_to_tokens(tokenizer(line)["input_ids"]) for line in lines]
    prefix = ours.family.prefix("es")
    more = {"forced_bos_token_id": tokenizer.convert_tokens_to_ids(prefix[0])} if prefix else {}
    results: list[list[str]] = []
    began = time.perf_counter()
    with torch.no_grad():
        for k in range(0, len(lines), BATCH):
            batch = tokenizer(lines[k : k + BATCH], return_tensors="pt", padding=True)
            told = model.generate(**batch, num_beams=BEAM, max_new_tokens=LONGEST, forced_eos_token_id=None, **more)
            results += [tokenizer.convert_ids_to_tokens(line) for line in told]
    middle = time.perf_counter()
    found = ours.translator.translate_batch(
        sources,
        target_prefix=[prefix] * len(sources) if prefix else None,
        beam_size=BEAM,
        max_decoding_length=LONGEST,
        max_batch_size=nmt.BATCH,
        batch_type="tokens",
    )
    ended = time.perf_counter()
    return {
        "family": name,
        "count": len(lines),
        "sources": sum(a != b for a, b in zip(sources, theirs, strict=True)),
        "results": sum(plain(a.hypotheses[0]) != plain(b) for a, b in zip(found, results, strict=True)),
        "theirs": middle - began,
        "ours": ended - middle,
    }


def main() -> None:
    root, sentences = Path(sys.argv[1]), json.load(sys.stdin)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    torch.set_num_threads(2)
    torch.manual_seed(16)
    for kind, size in (("bpe", 600), ("unigram", 500)):
        pieces(root, sentences, kind, size)
    for name in ("nllb", "m2m", "marian"):
        print(json.dumps(beside(name, root, sentences[: int(sys.argv[2])])), flush=True)


if __name__ == "__main__":
    main()
