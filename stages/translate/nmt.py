"""The backend ``nmt``: NLLB-200, M2M-100, OPUS-MT and IndicTrans2 by CTranslate2, without PyTorch.

Its name isn't ``ctranslate2``, which is a package. A model's folder has CTranslate2's model.bin, config.json and vocabulary,
and the SentencePiece model of its authors: two for OPUS-MT, source.spm and target.spm, and for IndicTrans2, vocab/model.SRC
and vocab/model.TGT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import terms
import vocabulary
from contract import ModelFault
from vocabulary import Family

LONGEST = 160
"""Pieces of a text that are translated at a time: about what these models were trained on."""

BATCH = 256
"""Tokens that are translated at once, padding among them. With weights of NLLB-200 600M's size, and lines that go on to their
limit, a minute took 0.2 GB beside the weights for them, 0.5 GB for 1024."""

ROOM = 2
"""How many times as many pieces as its source a translation may have, and 20 more: models loop now and then."""

PIECES = ("sentencepiece.bpe.model", "sentencepiece.model", "spm.model", "flores200_sacrebleu_tokenizer_spm.model")
"""How a shared SentencePiece model's file is called."""


@dataclass(frozen=True, kw_only=True)
class Nmt:
    """A model that is loaded."""

    family: Family
    translator: Any
    """ctranslate2.Translator."""
    reads: Any
    """sentencepiece.SentencePieceProcessor of the source."""
    writes: Any
    """And of the target."""
    beam: int

    def translate(self, lines: Sequence[str], *, source: str, target: str) -> list[str]:
        """Each line's translation.

        Args:
            lines: texts; placeholders are runs of characters of private use, and all of them come back.
            source, target: ISO 639-1, as Whisper has them.

        Raises:
            InputFault: the model doesn't have one of the languages.
        """
        coded = (lambda line: (line, terms.HELD.findall(line))) if self.family.holds else terms.coded
        codes = [coded(line) for line in lines]
        made = self._lines([text for text, _ in codes], source, target)
        made = [terms.decoded(text, held) for text, (_, held) in zip(made, codes, strict=True)]
        lost = [k for k, (_, held) in enumerate(codes) if any(token not in made[k] for token in held)]
        for k, text in zip(lost, self._around([lines[k] for k in lost], source, target), strict=True):
            made[k] = text
        return made

    def _around(self, lines: Sequence[str], source: str, target: str) -> list[str]:
        """Lines whose placeholders the model lost: what is between these is translated by itself."""
        cut = [re.split(f"({terms.HELD.pattern})", line) for line in lines]
        made = iter(self._lines([part for parts in cut for part in parts[::2]], source, target))
        return [
            " ".join(" ".join(next(made) if k % 2 == 0 else parts[k] for k in range(len(parts))).split())
            for parts in cut
        ]

    def _lines(self, lines: Sequence[str], source: str, target: str) -> list[str]:
        """Translations of lines of any length without placeholders."""

        def pieces(text: str) -> Sequence[str]:
            return self._pieces(self.family.told(text, source)[0])

        cut = [vocabulary.parts(line, pieces, LONGEST) if line.strip() else [] for line in lines]
        made = iter(self._texts([part for parts in cut for part in parts], source, target))
        return [" ".join(text for _ in parts if (text := next(made))) for parts in cut]

    def _pieces(self, text: str) -> Sequence[str]:
        pieces: list[str] = self.reads.encode(text, out_type=str)
        return pieces

    def _texts(self, texts: Sequence[str], source: str, target: str, *, hold: bool = True) -> list[str]:
        """Translations of texts that are short enough.

        Args:
            hold: what the family holds isn't translated; where that gets lost, it is translated with the rest.
        """
        told = [self.family.told(text, source, hold=hold) for text in texts]
        made = self._made([text for text, _ in told], source, target)
        made = [self.family.written(text, target, held) for text, (_, held) in zip(made, told, strict=True)]
        lost = [k for k, (_, held) in enumerate(told) if any(entity not in made[k] for entity in held)]
        lost = [k for k in lost if not terms.HELD.search(texts[k])]  # translate() looks after those
        if lost:
            free = self._texts([texts[k] for k in lost], source, target, hold=False)
            for k, text in zip(lost, free, strict=True):
                made[k] = text
        return made

    def _made(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """What the model makes of texts as it reads them."""
        tokens = [self.family.source(self._pieces(text), source, target) for text in texts]
        prefix = self.family.prefix(target)
        found = []
        for group in _groups(tokens):
            longest = max(len(tokens[k]) for k in group)
            made = self.translator.translate_batch(
                [tokens[k] for k in group],
                target_prefix=[prefix] * len(group) if prefix else None,
                beam_size=self.beam,
                max_decoding_length=ROOM * longest + 20,
                max_input_length=0,
            )
            found += [(k, result.hypotheses[0]) for k, result in zip(group, made, strict=True)]
        pieces = [self.writes.decode(self.family.text(tokens)) for _, tokens in sorted(found)]
        return [text.replace("▁", " ").strip() for text in pieces]  # pieces of the source's alphabet alone


def load(settings: Mapping[str, Any], folder: Path) -> Nmt:
    """The model in a folder.

    Args:
        settings: ``threads``, ``device``, ``compute_type`` and ``beam_size``, where they aren't the defaults.

    Raises:
        ModelFault: it isn't one that is known here, its vocabulary doesn't fit, or CTranslate2 can't load it.
    """
    import ctranslate2

    family = vocabulary.family(folder)
    names: tuple[str, ...] = ("source.spm", "target.spm")
    if family.name != "marian":
        names = vocabulary.indic_files(folder) or (_shared(folder),)
    processors = [_processor(folder / name) for name in names]
    for side, processor in zip(("source", "target"), processors, strict=False):
        pieces = [processor.id_to_piece(k) for k in range(processor.get_piece_size()) if not processor.is_control(k)]
        known = family.known if side == "source" else vocabulary.vocabulary(folder, side)
        vocabulary.require_fit(folder, pieces, known)
    try:
        translator = ctranslate2.Translator(
            str(folder),
            device=settings.get("device", "cpu"),
            compute_type=settings.get("compute_type", "int8"),
            inter_threads=1,
            intra_threads=settings.get("threads", 2),
        )
    except (RuntimeError, ValueError) as error:
        raise ModelFault(f"{folder.name}: CTranslate2 can't load it: {error}") from error
    beam = settings.get("beam_size", 4)
    return Nmt(family=family, translator=translator, reads=processors[0], writes=processors[-1], beam=beam)


def _shared(folder: Path) -> str:
    """The name of a folder's SentencePiece model.

    Raises:
        ModelFault: it has none.
    """
    for name in PIECES:
        if (folder / name).is_file():
            return name
    raise ModelFault(f"{folder.name}: no SentencePiece model: {PIECES[0]} is not there")


def _processor(path: Path) -> Any:
    """SentencePiece with a model.

    Raises:
        ModelFault: it can't be read.
    """
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(path.read_bytes())
    except (OSError, RuntimeError) as error:
        raise ModelFault(f"{path.parent.name}: {path.name} is not a SentencePiece model") from error
    return processor


def _groups(tokens: Sequence[Sequence[str]]) -> list[list[int]]:
    """Which texts are translated at once: of like length, and at most :data:`BATCH` tokens with their padding."""
    groups: list[list[int]] = []
    for k in sorted(range(len(tokens)), key=lambda k: (-len(tokens[k]), k)):
        if groups and len(tokens[groups[-1][0]]) * (len(groups[-1]) + 1) <= BATCH:
            groups[-1].append(k)
        else:
            groups.append([k])
    return groups
