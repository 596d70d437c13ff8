"""Apertium as a backend: pairs, the stream format, chains that fail."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import stage_module

pairs = stage_module("translate", "pairs")
apertium = stage_module("translate", "apertium")

MODE = (
    "lt-proc '/d/a.automorf.bin' | apertium-tagger -g $2 '/d/a.prob' | lt-proc $1 '/d/a.gen.bin' "
    "| lt-proc -p '/d/p q.bin'\n"
)


def data(folder: Path, *modes: str, text: str = "cat") -> Path:
    """A folder of languages."""
    (folder / "modes").mkdir()
    for mode in modes:
        (folder / "modes" / f"{mode}.mode").write_text(text)
    return folder


def test_a_mode_is_read_without_a_shell() -> None:
    assert apertium.commands(MODE) == [
        ["lt-proc", "-z", "/d/a.automorf.bin"],
        ["apertium-tagger", "-z", "-g", "/d/a.prob"],
        ["lt-proc", "-z", "-n", "/d/a.gen.bin"],
        ["lt-proc", "-z", "-p", "/d/p q.bin"],
    ]


def test_pairs_have_the_codes_of_the_project(tmp_path: Path) -> None:
    names = ["eng-spa", "eng-spa_US", "fr-es", "eng-hbs", "eng-hbs_HR", "hbs-eng", "nob-nno_e", "en-eo", "Cyrl-Latn"]
    found = pairs.apertium(data(tmp_path, *names))
    assert found == {
        ("en", "es"): "eng-spa.mode",
        ("fr", "es"): "fr-es.mode",
        ("en", "hr"): "eng-hbs_HR.mode",
        **{("en", code): "eng-hbs.mode" for code in ("bs", "sr")},
        **{(code, "en"): "hbs-eng.mode" for code in ("bs", "hr", "sr")},
    }
    assert pairs.apertium(tmp_path / "nothing") == {}


def test_an_unknown_pair_names_those_that_there_are(tmp_path: Path) -> None:
    folder = data(tmp_path, "eng-spa", "en-gl", "fr-es")
    with pytest.raises(apertium.InputFault, match="from en into es, gl, not into fr"):
        apertium.Apertium(data=folder).translate(["x"], source="en", target="fr")


def test_what_is_not_installed_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apertium, "DATA", tmp_path)
    with pytest.raises(apertium.ModelFault, match="apt-get install apertium"):
        apertium.load({}, tmp_path)
    program = tmp_path / "no-such-program"  # PATH has it, but it isn't Debian's
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin")
    folder = data(tmp_path, "eng-spa", text="no-such-program | cat")
    with pytest.raises(apertium.ModelFault, match="no-such-program isn't installed: apt-get"):
        apertium.Apertium(data=folder).translate(["x"], source="en", target="es")


PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=60)


@given(st.lists(PLAIN, max_size=5))
def test_what_a_chain_leaves_alone_comes_back(lines: list[str]) -> None:
    codes = [apertium._code(line) for line in lines]
    assert [apertium._restore(text, held) for text, held in codes] == [" ".join(line.split()) for line in lines]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=500))
def test_placeholders_keep_their_numbers_whatever_happens_to_their_case(order: list[int]) -> None:
    held = [chr(0xE000 + k) for k in range(401)]
    text, found = apertium._code(" a ".join(held))
    assert found == held
    words = text.split(" a ")
    assert len({word.lower() for word in words}) == len(words)
    moved = " ".join(words[k].upper() if k % 2 else words[k].lower() for k in order)
    assert apertium._restore(moved, found) == " ".join(held[k] for k in order)


def test_a_comma_stays_at_its_word() -> None:
    assert apertium._closed("el museo , pero no .", "the museum, but no.") == "el museo, pero no."
    assert apertium._closed("un , dos", "one , two") == "un , dos"
    assert apertium._closed("vale .5 y ...", "worth .5 and ...") == "vale .5 y ..."


def test_texts_go_through_a_chain_one_by_one() -> None:
    texts = ["a [b] {c} ^d$ \\ / <e> @ *", "", "x\0y", "end.", "[1]", "\ue000\ue001 z"]
    shown = ["a [b] {c} ^d$ \\ / <e> @ *", "", "x y", "end.", "[1]", "\ue000\ue001 z"]
    assert apertium._translated([["cat"], ["cat"]], texts) == shown


@pytest.mark.parametrize(
    "chain",
    [
        [["false"]],
        [["cat"], ["false"]],
        [["false"], ["cat"]],
        [["head", "-c", "3"]],
        [["tr", "-d", "\\000"]],
        [["tr", "-d", "1"]],
        [["no-such-program"]],
    ],
)
def test_a_chain_that_fails_leaves_the_text(chain: list[list[str]]) -> None:
    assert apertium._translated(chain, ["one", "two"]) == ["one", "two"]


def test_one_line_that_breaks_a_program_takes_no_other_with_it() -> None:
    breaks = [["sed", "-z", "/boom/Q7;s/a/A/"]]
    assert apertium._translated(breaks, ["a1", "a2", "boom a", "a3"]) == ["A1", "A2", "boom a", "A3"]


def test_a_chain_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apertium, "PATIENCE", 0.0)
    assert apertium._translated([["sleep", "600"]], ["x"]) == ["x"]
    monkeypatch.setattr(apertium, "WRITTEN", 1 << 16)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as taken:
        assert not apertium._piped([["head", "-c", "1000000", "/dev/zero"]], given, taken, 60.0)
        assert os.fstat(taken.fileno()).st_size <= 1 << 16
