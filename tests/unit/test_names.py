"""Names of a transcript: which words a model's names are, which spellings are one name, what is spelt anew, what is kept."""

from __future__ import annotations

import json
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest

from builder.core import glossary
from builder.core.jobs import naming
from builder.core.voices import cast as casting
from tests.conftest import ROOT, stage_module

passages = stage_module("names", "passages")
respelt = stage_module("translate").respelt


def segments(*texts: str, pause: float = 0.5) -> list[dict[str, Any]]:
    """Segments of a word a second, as align writes them."""
    made, at = [], 0.0
    for text in texts:
        words = [
            {"word": f" {word}", "start": at + k, "end": at + k + 0.5, "probability": 0.9}
            for k, word in enumerate(text.split())
        ]
        made.append({"start": at, "end": words[-1]["end"], "text": text, "words": words})
        at = words[-1]["end"] + pause
    return made


def book(text: str, names: dict[str, str], cast: Any = None) -> Any:
    """A book of one passage in which a model has found names, by their text."""
    people = stage_module("names", "people")
    (passage,) = passages.passages(segments(text))
    found = []
    for name, kind in names.items():
        at = passage.text.find(name)
        while at >= 0:
            found.append((at, at + len(name), kind))
            at = passage.text.find(name, at + 1)
    made = people.Book()
    made.add(passage, sorted(found), cast or people.Cast())
    return made


def test_a_passage_has_whole_sentences_and_ends_at_a_pause_or_when_it_is_long() -> None:
    found = list(passages.passages(segments("Hello there", "my friend. Ada")))
    assert [p.text for p in found] == ["Hello there my friend. Ada"]
    assert [word.first for word in found[0].words] == [True, False, False, False, True]
    assert [(w.segment, w.word) for w in found[0].between(12, 25)] == [(1, 0), (1, 1), (1, 2)]
    assert [p.text for p in passages.passages(segments("One", "two", pause=4.0))] == ["One", "two"]
    long = list(passages.passages(segments(*["word " * 100] * 4)))
    assert [len(p.words) for p in long] == [200, 200]
    late = segments("Hello")
    late[0]["start"] = 9.0
    assert [p.text for p in passages.passages(late)] == ["Hello"]


def test_changes_are_made_where_they_fit_and_nowhere_else() -> None:
    said = segments("Mister Homes smiled.", "He left.")
    change = {"segment": 0, "word": 1, "before": "Homes", "after": "Holmes"}
    others = [
        {"segment": 1, "word": 0, "before": "She", "after": "They"},
        {"segment": 1, "word": 0, "before": "H", "after": "Sh"},
        {"segment": 9, "word": 0, "before": "He", "after": "They"},
        {"segment": 0, "word": -1, "before": "smiled.", "after": "cried."},
    ]
    respelt.apply(said, [change, *others])
    assert [s["text"] for s in said] == ["Mister Holmes smiled.", "He left."]
    assert said[0]["words"][1]["word"] == " Holmes"


class TestSpelling:
    """What sounds alike; jellyfish comes with the development lock."""

    @pytest.fixture
    def spelling(self) -> Any:
        return stage_module("names", "spelling")

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Holmes", "Homes"),
            ("Mycroft", "Mikroft"),
            ("Watson", "Watsun"),
            ("Lestrade", "Lestrad"),
            ("Laszlo", "Lazlo"),
            ("Sara", "Sarah"),
            ("John", "Jon"),
            ("Mary", "Marry"),
            ("Catherine", "Kathryn"),
            ("Zoë", "Zoe's".removesuffix("'s") + "e"),
        ],
    )
    def test_one_name_in_two_spellings(self, spelling: Any, one: str, other: str) -> None:
        assert spelling.close(one, other)
        assert spelling.close(other, one)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Maria", "Mario"),
            ("Paul", "Paula"),
            ("Jane", "June"),
            ("Martin", "Marvin"),
            ("Will", "Bill"),
            ("Paris", "Parish"),
            ("Rick", "Rich"),
            ("Oleg", "Olga"),
            ("Holmes", "Holmes"),
            ("Holmes", "HOLMES"),
            ("Al", "El"),
            ("Иван", "Ивана"),
            ("", "Ada"),
        ],
    )
    def test_two_people_and_one_spelling(self, spelling: Any, one: str, other: str) -> None:
        assert spelling.close(one, other) == ""
        assert spelling.close(other, one) == ""

    def test_of_two_names_that_are_equally_close_none_is_taken(self, spelling: Any) -> None:
        assert spelling.Index(["Smith", "Smyth"]).nearest("Smeth") is None
        assert spelling.Index(["Watson", "Holmes"]).nearest("Homes") == ("Holmes", "sounds nearly the same")
        assert spelling.Index(["Homes"]).nearest("Holmes") == ("Homes", "sounds nearly the same")
        assert spelling.Index(["José", "Jose"]).nearest("Josee") == ("Jose", "sounds the same")


class TestPeople:
    """Names, their spellings, and what is kept."""

    @pytest.fixture
    def people(self) -> Any:
        return stage_module("names", "people")

    def test_a_list_spells_names_and_words_with_a_capital_within_a_sentence(self, people: Any) -> None:
        cast = people.Cast(["Sherlock Holmes", "Mycroft Holmes"])
        text = "Homes came. They saw Mikroft's brother Homes, who sold two homes to Homely."
        made = people.spellings(found := book(text, {"Homes": "person"}, cast), cast)
        assert [(entry.before, entry.after, entry.applied) for entry in made] == [
            ("Homes", "Holmes", True),
            ("Mikroft", "Mycroft", True),
        ]
        changes = [(c["word"], c["before"], c["after"]) for entry in made for c in entry.changes()]
        assert changes == [(0, "Homes", "Holmes"), (6, "Homes,", "Holmes,"), (4, "Mikroft's", "Mycroft's")]
        assert [(e["text"], e["count"]) for e in people.entities(found, made)] == [("Holmes", 2), ("Mycroft", 1)]

    def test_a_word_that_has_no_capital_elsewhere_stays(self, people: Any) -> None:
        cast = people.Cast(["Marc"])
        assert people.spellings(book("We saw the Mark who left a mark.", {}, cast), cast) == []
        assert people.spellings(book("We saw the Mark who left.", {}, cast), cast)[0].after == "Marc"

    def test_without_a_list_the_rarer_spelling_is_told_of(self, people: Any) -> None:
        made = people.spellings(
            book("So Watson met Watson. Then Watsun left.", {"Watson": "person", "Watsun": "person"}), people.Cast()
        )
        assert [(entry.before, entry.after, entry.applied) for entry in made] == [("Watsun", "Watson", False)]
        assert made[0].data()["count"] == 1

    def test_a_whole_name_of_the_list_counts_and_has_the_kind_of_its_part(self, people: Any) -> None:
        cast = people.Cast(["Sherlock Holmes", "Moriarty"])
        found = people.entities(book("Then Sherlock Holmes saw Moriarty.", {"Holmes": "person"}, cast), [])
        assert [(e["text"], e["kind"]) for e in found] == [("Sherlock Holmes", "person"), ("Moriarty", "listed")]
        assert people.kept(found, cast, "none") == ["Moriarty", "Sherlock Holmes"]

    def test_a_word_that_stands_there_without_a_capital_is_no_name(self, people: Any) -> None:
        found = people.entities(book("Okay said Ada. It is okay.", {"Okay": "person", "Ada": "person"}), [])
        assert [e["text"] for e in found] == ["Ada"]

    def test_of_very_many_names_the_most_frequent_count(self, people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(people, "MOST", 1)
        found = people.entities(book("So Bob met Ada. Then Ada left.", {"Bob": "person", "Ada": "person"}), [])
        assert [e["text"] for e in found] == ["Ada"]

    def test_articles_and_a_genitive_are_no_part_of_a_name(self, people: Any) -> None:
        found = people.entities(
            book("We saw the Tower's guard and Ada’s.", {"the Tower's": "place", "Ada’s.": "person"}), []
        )
        assert [(e["text"], e["kind"], e["first"]) for e in found] == [("Tower", "place", 3.0), ("Ada", "person", 6.0)]
        assert people.kept(found, people.Cast(), "people") == ["Ada"]
        assert people.kept(found, people.Cast(), "all") == ["Ada", "Tower"]


@pytest.mark.parametrize(
    ("data", "names", "why"),
    [
        (casting.for_job(["Ada"]), ["Ada"], ""),
        (None, [], "is not the one"),
        (casting.for_job(["Zoë"]), [], "is not the one"),
        (b"{", [], "is damaged"),
        (b'{"schema": 2, "names": ["Ada"]}', [], "is damaged"),
        (json.dumps({"schema": 1, "names": ["Ada"] * 5001}).encode(), [], "is damaged"),
        (b"[" * 100_000, [], "is damaged"),
    ],
    ids=["read", "missing", "another", "cut", "schema", "many", "deep"],
)
def test_a_job_s_list_is_read_and_another_one_is_a_note(data: bytes | None, names: list[str], why: str) -> None:
    main = stage_module("names")
    told: list[str] = []
    mine = data if why == "is damaged" and data else casting.for_job(["Ada"])
    job = SimpleNamespace(
        settings={"cast": sha256(mine).hexdigest()},
        inputs=["in"],
        beside=lambda _: data,
        note=lambda _, text: told.append(text),
    )
    assert main.told(job).names == names
    assert [why in text for text in told] == [True] * bool(why)


def test_a_list_of_names_goes_into_the_job_by_its_digest() -> None:
    terms = glossary.parse("cast.txt", "# who\nAda Lovelace\nZoë\n")
    data = casting.for_job([term.text for term in terms])
    assert json.loads(data) == {"schema": 1, "names": ["Ada Lovelace", "Zoë"]}
    assert data == casting.for_job(["Ada Lovelace", "Zoë"])


def test_the_table_of_names_is_a_result_and_a_glossary() -> None:
    assert naming.kind("talk.names.tsv", "talk") == "names.tsv"
    assert "names.tsv" in naming.expected("srt", speakers=True, film=False, names=True)
    (term,) = glossary.parse("talk.names.tsv", "term\tkeep\tnote\nAda Lovelace\tyes\tperson, said 2 ×\n")
    assert term.keep
    assert (ROOT / "stages/names/stage.yaml").is_file()
