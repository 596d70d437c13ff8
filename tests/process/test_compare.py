"""What compare refuses before it works, and the references that it finds beside recordings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.core.progress import Progress
from builder.edges.jobs.record import heard
from builder.errors import InputError, MissingError, UsageError
from builder.ui import Live
from builder.workflows.compare import commands
from builder.workflows.compare.commands import CompareOptions
from builder.workflows.session import Session, chosen_models
from tests import small_project


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Of a project whose store is empty; whatever would be told is kept in ``told``."""
    from builder.edges.machine import project

    root = small_project.make(tmp_path / "p", {}, fill=False)
    config = project.load(root, env={})
    return Session(config=config, env={}, on_progress=lambda _: None, live=Live(quiet=True))


def chosen(session: Session, names: str | None) -> list[str]:
    from builder.core.jobs.request import JobOptions

    return list(commands._chosen(session, names, JobOptions()))


def test_a_preset_that_is_not_there(session: Session) -> None:
    """Before anything is looked for or made; auto stands for one that is decided, and can't be compared."""
    with pytest.raises(UsageError, match='no preset "startr"') as caught:
        chosen(session, "startr")
    assert caught.value.hint == 'did you mean "starter"?'
    for wrong in ("auto", "starter,nothing"):
        with pytest.raises(UsageError, match="no preset"):
            chosen(session, wrong)
    for empty in ("", " , "):
        with pytest.raises(UsageError, match="no preset is named"):
            chosen(session, empty)


def test_models_that_are_not_here_are_named_and_not_fetched(session: Session) -> None:
    """With what to type for each; also where no preset was named and none has its models."""
    with pytest.raises(MissingError, match=r"starter lacks \d+\.\d MB, fast lacks \d") as caught:
        chosen(session, "starter,fast")
    assert caught.value.hint is not None
    assert "models fetch --preset starter; " in caught.value.hint
    assert caught.value.hint.endswith("models fetch --preset fast")
    with pytest.raises(MissingError, match="models are not here: starter lacks"):
        chosen(session, None)


def test_a_preset_that_cannot_do_what_is_asked_is_left_out(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it wasn't named: English for German, a model that wants to be told the language. Named, it is refused."""
    from dataclasses import replace

    from builder.core.terms import Purpose

    class Full:
        """A store that lacks nothing."""

        def missing(self, model: object, pin: object) -> tuple[object, ...]:
            return ()

    monkeypatch.setattr(commands, "store_of", lambda _: Full())
    presets = dict(session.config.presets)
    other = {**presets["starter"].models, Purpose.ASR: ("parakeet-tdt-0.6b-v3",)}
    presets = {"tiny-en": presets["tiny-en"], "parakeet": replace(presets["starter"], id="parakeet", models=other)}

    def asked(names: str | None, language: str | None) -> list[str]:
        config = session.config
        defaults = replace(config.defaults, language=language)
        return chosen(replace(session, config=replace(config, presets=presets, defaults=defaults)), names)

    assert asked(None, None) == ["tiny-en"]
    assert asked(None, "de") == ["parakeet"]
    assert asked(None, "en") == ["tiny-en", "parakeet"]
    with pytest.raises(UsageError, match="can't tell which language is spoken"):
        asked("parakeet", None)
    with pytest.raises(UsageError, match='does not know the language "ja"'):
        asked(None, "ja")


def test_what_cannot_be_compared(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that can't be written, standard input, no such file: said before hours of work."""
    from builder.core.jobs.request import JobOptions

    monkeypatch.setattr(commands, "_chosen", lambda *_: {})
    film = tmp_path / "talk.mp4"
    film.write_bytes(b"x")

    def compare(*words: str, page: Path | None = None) -> None:
        commands.compare(session, words, JobOptions(), CompareOptions(page=page))

    with pytest.raises(UsageError, match="this is a folder"):
        compare(str(film), page=tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        compare(str(film), page=tmp_path / "nowhere" / "x.html")
    with pytest.raises(InputError, match="no such file"):
        compare(str(tmp_path / "other.mp4"))
    with pytest.raises(UsageError, match="not fetched from the network"):
        compare("https://example.org/talk.mp4")
    (tmp_path / "talk.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not text in UTF-8"):
        compare(str(film))


def test_references_beside_a_recording(tmp_path: Path) -> None:
    """The first name that is there; results of an earlier run are not the truth, nor is the recording itself."""
    film = tmp_path / "talk.mp4"
    film.write_bytes(b"x")
    assert heard.beside(film, None).words_file is None
    (tmp_path / "talk.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nfrom vtt\n")
    (tmp_path / "talk.rttm").write_text("SPEAKER talk 1 0 1 <NA> <NA> A <NA> <NA>\n")
    found = heard.beside(film, None)
    assert (found.words_file, found.turns_file) == ("talk.vtt", "talk.rttm")
    assert [word.key for word in found.words or ()] == ["from", "vtt"]
    (tmp_path / "talk.txt").write_text("\ufefffrom text")
    assert heard.beside(film, None).words_file == "talk.txt"
    (tmp_path / "talk.json").write_text("{}")
    assert heard.beside(film, None).words is heard.beside(film, None).turns is None
    (tmp_path / "talk.reference.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\n20 words\n")
    found = heard.beside(film, "en")
    assert ([word.key for word in found.words or ()], found.turns_file) == (["twenty", "words"], None)


def test_a_reference_that_is_none(tmp_path: Path) -> None:
    """It is refused with its name: a FIFO doesn't block, a large file isn't read."""
    film = tmp_path / "talk.mp4"
    film.write_bytes(b"x")
    (tmp_path / "talk.rttm").write_text("SPEAKER talk 1 zero 1 <NA> <NA> A <NA> <NA>\n")
    with pytest.raises(InputError, match="line 1 is not one of RTTM"):
        heard.beside(film, None)
    (tmp_path / "talk.rttm").unlink()
    with (tmp_path / "talk.txt").open("wb") as out:
        out.truncate((16 << 20) + 1)
    with pytest.raises(UsageError, match="more than 16 MiB"):
        heard.beside(film, None)
    (tmp_path / "talk.txt").unlink()
    os.mkfifo(tmp_path / "talk.txt")
    with pytest.raises(UsageError, match="can't be read"):
        heard.beside(film, None)


def test_only_one_preset_is_said(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none was named and one alone has its models, the note tells how there come to be more."""
    from dataclasses import replace

    told: list[Progress] = []
    real = commands.store_of(session.config)

    class Here:
        """A store that has what starter needs."""

        def missing(self, model: object, pin: object) -> tuple[object, ...]:
            return () if getattr(model, "id", "") in mine else real.missing(model, pin)  # type: ignore[arg-type]

    starter = replace(session.config, defaults=replace(session.config.defaults, preset="starter"))
    mine = {model.id for model, _ in chosen_models(starter).values()}
    monkeypatch.setattr(commands, "store_of", lambda _: Here())
    assert chosen(replace(session, on_progress=told.append), None) == ["starter"]
    assert [step.what for step in told] == ["warning"]
    assert "only starter has its models here" in told[0].note
