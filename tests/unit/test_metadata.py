"""Films and songs: what is asked about a file, and answers of services that may be anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.core import glossary
from builder.core.metadata import works
from builder.core.metadata.works import Named, Query, Role, Work
from builder.edges.metadata.services import Kept, KeptFile
from builder.errors import SourceError
from builder.views import metadata as views
from builder.workflows.metadata.commands import AnswersKept, FileDescribed, MetadataFound

FILM: dict[str, Any] = {
    "id": 1092,
    "title": "The Third Man",
    "release_date": "1949-08-31",
    "overview": "…",
    "credits": {
        "cast": [
            {"name": "Orson Welles", "character": "Harry Lime", "order": 0},
            {"name": "A", "character": "Narrator (voice) / Major Calloway"},
            {"name": "B", "character": "Self"},
            {"name": "C", "character": "Man #2"},
            {"name": "D"},
            {"name": "E", "character": "harry lime"},
            {"name": "F", "character": "HARRY LIME"},
        ]
    },
}


def test_a_film_is_asked_for_by_its_name_and_a_song_by_its_tags() -> None:
    name = works.named({"title": "The Third Man", "year": 1949, "type": "movie"})
    film = works.query(name, {"title": "rip by someone", "date": "2001"}, picture=True)
    assert film == Query(service="tmdb", title="The Third Man", year=1949)
    assert (film.path, film.parameters) == ("/3/search/movie", {"query": "The Third Man", "year": "1949"})
    series = works.query(
        works.named({"title": "Fargo", "season": 2, "type": "episode"}), {"date": "2015"}, picture=True
    )
    assert series is not None
    assert (series.path, series.parameters) == ("/3/search/tv", {"query": "Fargo", "first_air_date_year": "2015"})
    song = works.query(Named(title="track01"), {"title": 'The "Heroes"', "artist": "Bowie"}, picture=False)
    assert song is not None
    assert song.parameters["query"] == 'recording:"The \\"Heroes\\"" AND artist:"Bowie"'
    assert works.query(Named(), {}, picture=True) is works.query(Named(), {}, picture=False) is None


@pytest.mark.parametrize("answer", [None, [], "x", {"title": ["a"], "year": "soon", "season": True, "episode": -1}])
def test_a_name_that_says_nothing(answer: object) -> None:
    assert works.named(answer) == Named()


def test_tags_are_bounded_and_on_one_line() -> None:
    said = works.tags(
        {"TITLE": "a\nb\x1b[2J" + "c" * 999, "Album Artist": "d", "comment": "e", "artist": 7, "date": None}
    )
    assert said == {"title": ("a b [2J" + "c" * 999)[:200], "artist": "7", "album_artist": "d"}
    assert works.tags(["x"]) == {}


def test_a_film_and_its_characters() -> None:
    assert works.first({"results": [{"id": 1092, "title": "x"}, {"id": 2}]}) == 1092
    assert works.first({"results": []}) is None
    work = works.film(FILM)
    assert (work.id, work.title, work.year, work.cast[0]) == (
        "1092",
        "The Third Man",
        1949,
        Role(name="Orson Welles", character="Harry Lime"),
    )
    terms = glossary.parse("cast.tsv", works.glossary([work, work]))
    assert [(t.text, t.keep) for t in terms] == [("Harry Lime", True), ("Narrator", True), ("Major Calloway", True)]
    assert terms[0].note == "played by Orson Welles, The Third Man"


def test_a_song() -> None:
    entry = {
        "id": "b7a4",
        "title": "“Heroes”",
        "first-release-date": "1977-09-23",
        "artist-credit": [{"name": "David Bowie", "joinphrase": " & "}, {"name": "Brian Eno"}],
        "releases": [{"title": "“Heroes”"}, {"title": "Best of"}],
    }
    work = works.song({"count": 1, "recordings": [entry]})
    assert work == Work(
        service="musicbrainz",
        id="b7a4",
        title="“Heroes”",
        year=1977,
        artist="David Bowie & Brian Eno",
        album="“Heroes”",
    )
    assert works.song({"recordings": []}) is None


@pytest.mark.parametrize(
    ("reader", "answer"),
    [
        (works.first, {"results": [{"id": "../../1"}]}),
        (works.first, {"results": {}}),
        (works.first, ["x"]),
        (works.film, {"id": 1}),
        (works.film, {"id": 1, "title": "a", "credits": {"cast": "everybody"}}),
        (works.film, None),
        (works.song, {"recordings": [{"title": "a"}]}),
        (works.song, {"recordings": [7]}),
        (works.song, {"recordings": [{"id": "1", "title": "", "artist-credit": []}]}),
        (works.song, {"error": "x"}),
    ],
)
def test_an_answer_that_is_none(reader: Any, answer: Any) -> None:
    with pytest.raises(ValueError, match=r"not what they should be|no title"):
        reader(answer)


def test_a_cast_has_an_end() -> None:
    crowd = [{"name": f"n{k}", "character": "x" * 900} for k in range(300)]
    work = works.film({"id": 1, "title": "a", "credits": {"cast": crowd}})
    assert (len(work.cast), len(work.cast[0].character)) == (works.MOST, works.LONGEST)


def test_what_is_shown() -> None:
    query = Query(service="tmdb", title="a")
    kept = Kept(work=works.film(FILM), asked=0.0)
    files = (
        FileDescribed(
            file=Path("a.mkv"),
            named=Named(title="A", year=1949, season=1, episode=2),
            tags={"artist": "x"},
            query=query,
            found=kept,
        ),
        FileDescribed(file=Path("b.mkv"), named=Named(), tags={}, query=None, found=None),
        FileDescribed(file=Path("c.mkv"), named=Named(), tags={}, query=query, found=None),
        FileDescribed(file=Path("d.mkv"), named=Named(), tags={}, query=query, found=Kept(work=None, asked=0.0)),
        FileDescribed(file=Path("e.mkv"), named=Named(), tags={}, query=query, found=None, problem=SourceError("gone")),
    )
    found = MetadataFound(files=files, glossary=Path("cast.tsv"), now=3 * 86400.0)
    lines = views.METADATA.text(found).splitlines()
    assert lines[1:4] == [
        "  name: A (1949), season 1, episode 2",
        "  artist: x",
        "  tmdb 1092: The Third Man, 1949 (asked 3 d ago)",
    ]
    assert lines[4] == "    Harry Lime: Orson Welles"
    assert [line for line in lines if line.startswith("  no ") or "problem" in line] == [
        "  no title to ask about",
        "  no service was asked: --online asks",
        "  no service knows it (asked 3 d ago)",
        "  problem: gone",
    ]
    assert found.failure is files[-1].problem
    data = views.METADATA.data(found)
    assert data["files"][0]["work"]["cast"][0] == {"name": "Orson Welles", "character": "Harry Lime"}
    one = KeptFile(service="tmdb", path=Path("x"), said="A (1949)", asked=0.0, size=2048)
    shown = views.ANSWERS.text(AnswersKept(answers=(one,), forgotten=False, now=7200.0)).splitlines()
    assert shown[1].split() == ["tmdb", "A", "(1949)", "2", "h", "ago", "2.0", "kB"]
    assert views.ANSWERS.text(AnswersKept(answers=(), forgotten=True, now=0.0)) == "0 answers, 0 B, removed"
