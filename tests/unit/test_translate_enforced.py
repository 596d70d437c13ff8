"""A glossary's terms in translations: put there, and what a result says of those that are missing."""

from __future__ import annotations

from tests.conftest import stage_module

enforced = stage_module("translate", "enforced")
Term, Line = enforced.Term, enforced.Line

GLOSSARY = (
    Term(text="Baskerville", keep=True, translate={}),
    Term(text="fire brigade", translate={"es": "bomberos", "de": "Feuerwehr"}),
    Term(text="ACME", translate={}),
)


def test_terms_are_in_their_places_whatever_becomes_of_the_words() -> None:
    def shout(texts: list[str]) -> list[str]:
        assert not any("Baskerville" in text or "brigade" in text for text in texts)
        return [" ".join(reversed(text.upper().split())) for text in texts]

    found = enforced.Enforced(GLOSSARY, "es").translated(["Baskerville and the fire brigade", "ACME"], "en", shout)
    assert found == ["bomberos THE AND Baskerville", "ACME"]


def test_a_term_is_looked_for_as_the_spoken_language_writes_it() -> None:
    assert enforced.Enforced(GLOSSARY, "es").translated(["die Feuerwehr"], "de", list) == ["die bomberos"]


def line(start: float, end: float, text: str, channel: int | None = None) -> object:
    return Line(start=start, end=end, text=text, channel=channel)


def test_what_is_lost_is_said_with_its_time() -> None:
    said = [
        line(0, 2, "Baskerville! The fire brigade!"),
        line(2, 4, "Baskerville Baskerville"),
        line(9, 9, "Baskerville"),
    ]
    told = [line(0, 4, "baskerville, los bomberos, Baskerville")]
    account = enforced.Enforced(GLOSSARY, "es").account(said, told, lambda _: "en")
    assert account == {
        "kept": 3,
        "lost": [{"start": start, "end": end, "wanted": "Baskerville"} for start, end in ((2, 4), (9, 9))],
    }
    assert enforced.Enforced(GLOSSARY, "es").lacking("Baskerville", "Baskerville", "en") == {}
    assert enforced.Enforced(GLOSSARY, "es").lacking("Baskerville Baskerville", "Baskerville", "en") == {
        enforced.LACKING: 1.0
    }


def test_each_channel_has_its_own_terms_and_a_list_of_lost_ones_has_an_end() -> None:
    said = [line(k, k + 1, "Baskerville", 1) for k in range(enforced.LISTED + 9)]
    told = [line(k, k + 1, "Baskerville", 2) for k in range(enforced.LISTED + 9)]
    account = enforced.Enforced(GLOSSARY, "es").account(said, told, lambda _: "en")
    assert (account["kept"], len(account["lost"])) == (0, enforced.LISTED)


def test_names_stay_as_they_are_written_where_the_letters_are_latin() -> None:
    names = ["Rose", "Baskerville", "Will"]

    def seen(target: str) -> list[str]:
        found: list[str] = []
        enforced.Enforced(GLOSSARY, target, names).translated(
            ["Rose rose, and Will will."], "en", lambda texts: found.extend(texts) or texts
        )
        return found

    assert seen("es") == ["\ue000 rose, and \ue001 will."]
    assert seen("ru") == ["Rose rose, and Will will."]
    mine = enforced.Enforced(GLOSSARY, "es", names)
    assert mine.translated(["Rose rose."], "en", lambda texts: [text.upper() for text in texts]) == ["Rose ROSE."]
    assert mine.lacking("Rose rose.", "Se levantó.", "en") == {}, "a model has found them: nobody looks for them"
