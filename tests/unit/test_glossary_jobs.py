"""A glossary on its way: from a file, or the one beside bake.yaml, into a job's folder, and out of it in a stage."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import glossary as stages_glossary  # stages/glossary.py, as every stage finds it
import pytest

from builder.core import glossary
from builder.core.glossary import Term
from builder.core.jobs.request import Request
from builder.edges.machine import terms
from builder.errors import BakeError, ConfigError, UsageError

TERMS = glossary.parse("g.tsv", "term\theard\tkeep\tes\nAda\tAida|Ida\tyes\t\nengine\t\t\tmáquina\nBabbage\n")


def request(**settings: Any) -> Request:
    return Request(workflow=None, variant="slim", preset="starter", models={}, settings=settings, warning="w")


def test_asr_and_a_translation_read_it_and_another_glossary_is_another_job() -> None:
    one = glossary.with_glossary(request(asr={"beam_size": 1}, translate={"to": "es"}), TERMS)
    assert set(one.settings["asr"]) == {"beam_size", "glossary"}
    assert one.settings["translate"]["glossary"] == one.settings["asr"]["glossary"]
    assert "translate" not in glossary.with_glossary(request(), TERMS).settings
    other = glossary.with_glossary(request(), TERMS[:2])
    assert other.settings["asr"] != glossary.with_glossary(request(), TERMS).settings["asr"]
    assert glossary.with_glossary(request(), ()) == request()


def test_a_language_that_no_term_is_translated_into_is_said() -> None:
    told = glossary.with_glossary(request(translate={"to": "es,fr"}), TERMS[1:], warning="from here")
    assert told.warning == "w; from here; no term of the glossary says how it is in fr"
    assert "fr" not in glossary.with_glossary(request(translate={"to": "fr"}), TERMS).warning  # one is kept


def stage(data: bytes | None, digest: str | None) -> Any:
    notes: list[str] = []
    return SimpleNamespace(
        settings={"glossary": digest},
        inputs=["r"],
        notes=notes,
        beside=lambda name: data,
        note=lambda recording, text: notes.append(text),
    )


def test_a_stage_reads_what_the_builder_writes() -> None:
    asked = glossary.with_glossary(request(), TERMS)
    job = stage(asked.glossary, asked.settings["asr"]["glossary"])
    found = stages_glossary.told(job)
    assert [(t.text, t.heard, dict(t.translate), t.keep) for t in found] == [
        ("Ada", ("Aida", "Ida"), {}, True),
        ("engine", (), {"es": "máquina"}, False),
        ("Babbage", (), {}, False),
    ]
    assert [(t.wanted("es"), t.said("es")) for t in found] == [
        ("Ada", "Ada"),
        ("máquina", "máquina"),
        (None, "Babbage"),
    ]
    assert job.notes == []


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: None,
        lambda whole: whole | {"schema": 2},
        lambda whole: whole | {"terms": []},
        lambda whole: whole | {"terms": whole["terms"] * 5000},
        lambda whole: {"schema": 1, "terms": [{"term": "a\nb", "heard": [], "translate": {}, "keep": False}]},
        lambda whole: {"schema": 1, "terms": [{"term": "a" * 101, "heard": [], "translate": {}, "keep": False}]},
        lambda whole: {"schema": 1, "terms": [{"term": "a", "heard": [3], "translate": {}, "keep": False}]},
        lambda whole: {"schema": 1, "terms": [7]},
        lambda whole: [],
    ],
)
def test_a_file_that_no_builder_wrote_is_a_note(change: Any) -> None:
    import hashlib

    whole = change(json.loads(glossary.for_job(TERMS)))
    data = b"" if whole is None else json.dumps(whole).encode()
    job = stage(data, hashlib.sha256(data).hexdigest())
    assert stages_glossary.told(job) == ()
    assert job.notes == ["no terms are known: the glossary is damaged"]


def test_another_file_than_the_job_s_is_a_note_and_without_one_there_is_none() -> None:
    for data in (None, glossary.for_job(TERMS[:1])):
        job = stage(data, "0" * 64)
        assert stages_glossary.told(job) == ()
        assert len(job.notes) == 1
    job = stage(None, None)
    assert (stages_glossary.told(job), job.notes) == ((), [])


def test_the_one_beside_bake_yaml_is_taken_and_said(tmp_path: Path) -> None:
    assert terms.find("auto", tmp_path) == terms.Found()
    (tmp_path / "glossary.tsv").write_text("term\nAda\n")
    found = terms.find("auto", tmp_path)
    assert [t.text for t in found.terms] == ["Ada"]
    assert found.note == "1 term of glossary.tsv beside bake.yaml: --glossary none leaves them out"
    assert terms.find("none", tmp_path) == terms.Found()
    (tmp_path / "glossary.yaml").write_text("terms: [Ada]\n")
    with pytest.raises(ConfigError, match=r"glossary\.yaml and glossary\.tsv lie"):
        terms.find("auto", tmp_path)
    assert terms.find(str(tmp_path / "glossary.yaml"), tmp_path) == terms.Found(terms=(Term(text="Ada", line=1),))


@pytest.mark.parametrize(
    ("data", "kind", "where"),
    [
        (None, UsageError, "--glossary"),
        (b"", UsageError, "--glossary"),
        (b"Ada\n\xff\n", UsageError, "g.txt:2"),
        (b"Ada\nB\tb\n", ConfigError, "g.txt:2"),
        (b"a\n" * (3 << 20), UsageError, "g.txt"),
        ("\n".join(f"t{k}" for k in range(5001)).encode(), ConfigError, "g.txt:5001"),
    ],
    ids=["missing", "empty", "latin", "tab", "large", "many"],
)
def test_a_file_that_is_no_glossary_is_refused_with_its_line(
    tmp_path: Path, data: bytes | None, kind: type[BakeError], where: str
) -> None:
    path = tmp_path / "g.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(kind) as caught:
        terms.find(str(path), tmp_path)
    assert where in str(caught.value.where)
    assert caught.value.exit_code == 2
