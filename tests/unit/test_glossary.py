"""Glossaries in three forms: the same terms, and each broken line is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core import glossary
from builder.core.glossary import Term
from builder.errors import ConfigError

YAML = """\
terms:
  - term: Ada Lovelace
    heard: [Aida Loveless, Ada Love Lace]
    keep: true
  - term: engine
    translate: {es: máquina}
    note: the analytical one
  - Babbage
"""

TABLE = """\
# names
term\theard\tkeep\tes\tnote
Ada Lovelace\tAida Loveless | Ada Love Lace\tyes

engine\t\t\tmáquina\tthe analytical one
Babbage
"""


def plain(terms: tuple[Term, ...]) -> list[object]:
    return [(t.text, t.heard, dict(t.translations), t.keep, t.note) for t in terms]


def test_yaml_and_a_table_say_the_same() -> None:
    one, two = glossary.parse("g.yaml", YAML), glossary.parse("g.tsv", "\ufeff" + TABLE.replace("\n", "\r\n"))
    assert plain(one) == plain(two)
    assert [t.line for t in one] == [2, 5, 8]
    assert [t.line for t in two] == [3, 5, 6]
    assert [t.wanted("es") for t in one] == ["Ada Lovelace", "máquina", None]
    assert one[1].wanted("fr") is None


def test_a_plain_list_has_a_term_a_line() -> None:
    assert [t.text for t in glossary.parse("names.txt", "# cast\n\nAda\n  Charles Babbage \n")] == [
        "Ada",
        "Charles Babbage",
    ]


@pytest.mark.parametrize(
    ("name", "text", "where", "what"),
    [
        ("g.txt", "Ada\nBab\tbage", "g.txt:2", "tab"),
        ("g.txt", "Ada\nada", "g.txt:2", "line 1 too"),
        ("g.txt", "A" * 101, "g.txt:1", "too long"),
        ("g.tsv", "term\tnote\n" + "A" * 101 + "\t" + "A" * 101, "g.tsv:2", "too long"),
        ("g.tsv", "term\tnote\nx\t" + "n" * 501, "g.tsv:2", "note is too long"),
        ("g.tsv", "term\tnote\nx\tn\x07", "g.tsv:2", "control"),
        ("g.tsv", "term\theard\nx\t" + "|".join(f"h{k}" for k in range(51)), "g.tsv:2", "51 texts"),
        ("g.txt", "Ada\nB\x07b", "g.txt:2", "control"),
        ("g.txt", "Ada\nB\ue000b", "g.txt:2", "private"),
        ("g.tsv", "heard\tes\nx\ty", "g.tsv:1", "term"),
        ("g.tsv", "term\tterm\nx\ty", "g.tsv:1", "once"),
        ("g.tsv", "term\tspa\nx\ty", "g.tsv:1", "no column"),
        ("g.tsv", "term\tes\nx\ty\tz", "g.tsv:2", "3 cells"),
        ("g.tsv", "term\tkeep\nx\tmaybe", "g.tsv:2", "keep"),
        ("g.tsv", "es\tterm\ny\t\t", "g.tsv:2", "3 cells"),
        ("g.tsv", "es\tterm\ny", "g.tsv:2", "without text"),
        ("g.tsv", "term\tkeep\tes\nx\tyes\ty", "g.tsv:2", "kept and translated"),
        ("g.yaml", "terms:\n  - term: x\n    translate: {xx: y}", "g.yaml:2", "language code"),
        ("g.yaml", "terms:\n  - a\n  - heard: [b]", "g.yaml:3", "missing"),
        ("g.yaml", "terms:\n  - a\n  - term: b\n    heard: ['']", "g.yaml:3", "empty"),
        ("g.yaml", "terms: [", "g.yaml:", "YAML"),
    ],
)
def test_a_broken_line_is_named(name: str, text: str, where: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        glossary.parse(name, text)
    assert str(caught.value.where).startswith(where)


CELL = st.text(st.characters(categories=["L", "Nd", "Zs", "P"], exclude_characters="|#"), min_size=1, max_size=20).map(
    str.strip
)


@given(st.dictionaries(CELL.filter(bool).map(str.casefold), st.tuples(CELL, CELL, st.booleans()), max_size=8))
def test_a_table_is_read_as_it_is_written(rows: dict[str, tuple[str, str, bool]]) -> None:
    lines = [
        f"{term}\t{heard}\t{'yes' if keep else ''}\t{'' if keep else es}" for term, (heard, es, keep) in rows.items()
    ]
    found = glossary.parse("g.tsv", "\n".join(["term\theard\tkeep\tes", *lines]))
    assert [t.text for t in found] == list(rows)
    for term, (heard, es, keep) in zip(found, rows.values(), strict=True):
        assert term.heard == ((heard,) if heard else ())
        assert term.wanted("es") == (term.text if keep else es or None)


@given(st.sampled_from(["g.yaml", "g.tsv", "g.txt"]), st.text(max_size=200))
def test_whatever_stands_in_a_file_ends_as_terms_or_an_error_with_its_place(name: str, text: str) -> None:
    try:
        terms = glossary.parse(name, text)
    except ConfigError as error:
        place, terms = str(error.where), ()
    else:
        place = name
    assert place.startswith(name)
    assert all(term.text and term.line for term in terms)
