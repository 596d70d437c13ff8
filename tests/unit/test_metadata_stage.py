"""What a job is told of its recordings, what the stage makes of it, and what the page shows."""

from __future__ import annotations

import json
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest

from builder.core import glossary
from builder.core.glossary import Term
from builder.core.jobs.record import subject
from builder.core.jobs.request import Request
from builder.core.metadata import about
from builder.core.metadata.about import Known
from builder.core.metadata.works import Role, Work
from builder.core.voices import cast
from builder.errors import UsageError
from tests.conftest import stage_module

FILM = Work(
    service="tmdb",
    id="1092",
    title="The Third Man",
    year=1949,
    cast=(Role(name="Orson Welles", character="Harry Lime"), Role(name="A", character="Anna Schmidt")),
)
KNOWN = (Known(tags={"title": "rip"}, work=FILM), Known())


def request(**given: Any) -> Request:
    return Request(workflow=None, variant="slim", preset="starter", models={}, settings={}, metadata=True, **given)


def test_characters_become_terms_behind_those_that_are_there() -> None:
    own = glossary.with_glossary(
        request(), [Term(text="anna schmidt"), Term(text="Wien", translations={"en": "Vienna"})]
    )
    told = about.with_metadata(own, KNOWN, terms=True)
    assert [(t.text, t.keep) for t in glossary.of_job(told.glossary)] == [
        ("anna schmidt", False),
        ("Wien", False),
        ("Harry Lime", True),
    ]
    assert told.settings["asr"]["glossary"] == sha256(told.glossary).hexdigest()
    assert told.settings["metadata"]["known"] == sha256(told.about).hexdigest()
    assert not told.cast  # nobody looks for names
    without = about.with_metadata(own, KNOWN, terms=False)
    assert (without.glossary, without.about) == (own.glossary, told.about)
    assert about.with_metadata(request(), [Known()], terms=True).glossary == b""


def test_names_are_spelt_by_the_cast_list_and_the_characters() -> None:
    asked = cast.with_cast(request(), ["Wien"])
    assert cast.names(about.with_metadata(asked, KNOWN, terms=True)) == ["Wien", "Harry Lime", "Anna Schmidt"]
    alone = about.with_metadata(request(names=True), KNOWN, terms=True)
    assert cast.names(alone) == ["Harry Lime", "Anna Schmidt"]


def test_of_a_long_cast_the_first_become_terms() -> None:
    many = Work(service="tmdb", id="1", title="t", cast=tuple(Role(name="A", character=f"N{k}") for k in range(80)))
    assert about.characters([Known(work=many)]) == [f"N{k}" for k in range(about.CHARACTERS)]
    assert about.characters([Known(work=FILM), Known(work=FILM)]) == ["Harry Lime", "Anna Schmidt"]


def test_what_the_option_takes() -> None:
    assert (about.chosen(None), about.chosen("cached")) == (None, "cached")
    with pytest.raises(UsageError, match='"onlin" is neither') as caught:
        about.chosen("onlin")
    assert (caught.value.where, caught.value.hint) == ("--metadata", 'did you mean "online"?')


def told(data: bytes | None, setting: str | None) -> tuple[Any, list[str]]:
    notes: list[str] = []
    job = SimpleNamespace(
        settings={"known": setting}, inputs=["r"], beside=lambda _: data, note=lambda _, text: notes.append(text)
    )
    return stage_module("metadata").told(job), notes


def test_the_stage_reads_what_the_builder_writes() -> None:
    data = about.for_job(KNOWN)
    found, notes = told(data, sha256(data).hexdigest())
    assert (notes, found["02"]) == ([], {"tags": {}, "work": None})
    main = stage_module("metadata")
    named = {"title": "The Third", "year": 1950, "type": "movie"}
    made = main.described(named, found["01"], picture=True)
    assert (made["kind"], made["title"], made["year"], made["tags"]) == (
        "film",
        "The Third Man",
        1949,
        {"title": "rip"},
    )
    assert made["work"]["cast"][0] == {"name": "Orson Welles", "character": "Harry Lime"}
    alone = main.described(named, found["02"], picture=True)
    assert (alone["title"], alone["year"], alone["work"]) == ("The Third", 1950, None)
    song = main.described(
        {"title": "01 track", "episode": 1, "type": "episode"},
        {"tags": {"title": "Heroes", "date": "1977-10"}},
        picture=False,
    )
    assert (song["kind"], song["title"], song["year"], song["episode"]) == ("sound", "Heroes", 1977, None)
    episode = main.described({"title": "T", "season": 2, "episode": 3, "type": "episode"}, {}, picture=True)
    assert (episode["kind"], episode["season"], episode["episode"]) == ("series", 2, 3)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "not those"),
        (about.for_job([Known()]), "not those"),
        (b"{", "damaged"),
        (b'{"schema": 2, "recordings": {}}', "damaged"),
        (b'{"schema": 1, "recordings": []}', "damaged"),
        (b'{"schema": 1, "recordings": {"01": 7}}', "damaged"),
        (b"[" * 100_000, "damaged"),
    ],
    ids=["missing", "another", "cut", "schema", "list", "number", "deep"],
)
def test_a_file_that_is_not_the_job_s_is_a_note(data: bytes | None, why: str) -> None:
    mine = data if why == "damaged" and data else about.for_job(KNOWN)
    found, (note,) = told(data, sha256(mine).hexdigest())
    assert found == {}
    assert why in note


def test_values_of_another_shape_say_nothing() -> None:
    main = stage_module("metadata")
    roles: list[Any] = [{"name": "A\n\x1b[31mB", "character": 7}, {"character": "x"}, 7, {"name": ""}]
    entry: dict[str, Any] = {
        "tags": {"title": ["x"], "a\nb": "c" * 900},
        "work": {"title": "T", "cast": roles, "year": True},
    }
    made = main.described({"title": ["x"], "year": "1e9", "season": True}, entry, picture=True)
    assert made["tags"] == {"a b": "c" * 200}
    assert made["work"]["cast"] == [{"name": "A [31mB", "character": ""}]
    assert (made["title"], made["year"], made["season"], made["work"]["year"]) == ("T", None, None, None)
    for odd in ([], "x", {"title": 7}, {"title": "T", "cast": 7}):
        assert (main.about(odd) or {"cast": []})["cast"] == []


def test_the_page_shows_what_a_transcript_says_and_nothing_of_another_shape() -> None:
    main = stage_module("metadata")
    entry = json.loads(about.for_job(KNOWN))["recordings"]["01"]
    shown = subject.parsed(main.described({"title": "x", "season": 1, "type": "episode"}, entry, picture=True))
    assert shown is not None
    assert (shown.title, shown.facts) == ("The Third Man", ("1949", "season 1", "tmdb 1092"))
    assert (shown.cast, shown.more) == ((("Harry Lime", "Orson Welles"), ("Anna Schmidt", "A")), 0)
    roles = [{"name": "A", "character": "b"}] * 200
    many = subject.parsed({"title": "T" * 900, "work": {"cast": roles}})
    assert many is not None
    assert (len(many.cast), many.more, len(many.title)) == (subject.ROLES, 170, 200)
    for odd in (None, [], {"title": 7.5}, {"title": ""}, {"title": True}):
        assert subject.parsed(odd) is None
    odd_parts = subject.parsed({"title": "T", "work": 7, "tags": [], "year": {}})
    assert odd_parts == subject.Subject(title="T")
