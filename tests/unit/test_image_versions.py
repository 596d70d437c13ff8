"""Versions of images: what a build makes known, how long it stays, and what a rollback goes to."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.images import versions
from builder.core.images.versions import KEPT, BuildNote, Hold, VersionImage, Versions, noted
from builder.edges.images.past.versions import commit_of
from builder.edges.jobs import outcome
from builder.errors import UsageError
from tests.golden import project as fixed
from tests.unit.test_job import GOOD

ASR, VAD, GPU = "wb/asr:slim-cpu", "wb/vad:slim-cpu", "wb/asr:slim-gpu"

NOTHING = Versions()


def images(**ids: str) -> tuple[VersionImage, ...]:
    """Images by short words for their tags."""
    tags = {"asr": ASR, "vad": VAD, "gpu": GPU}
    return tuple(VersionImage(tag=tags[name], id=id_, manifest=f"m-{id_}") for name, id_ in ids.items())


def build(
    *, mode: str = "docker-cpu", version: str = "0.1.0", commit: str = "", ends: bool = True, **ids: str
) -> BuildNote:
    return BuildNote(
        mode=mode,
        variant="slim",
        version=version,
        commit=commit,
        at="2026-11-28T10:00:00Z",
        images=images(**ids),
        ends_hold=ends,
    )


def after(*builds: BuildNote, state: Versions = NOTHING) -> Versions:
    for one in builds:
        state = noted(state, one)
    return state


def held(state: Versions, name: str, *, moving: bool = False) -> Versions:
    """As a rollback to a version leaves it."""
    version = next(v for v in state.known if v.name == name)
    hold = Hold(
        mode=version.mode,
        variant=version.variant,
        name=name,
        at="",
        moving=moving,
        ids=version.ids,
        codes={"asr": "c1"},
    )
    return replace(state, holds=(hold,))


def of(state: Versions, mode: str = "docker-cpu") -> list[str]:
    return [v.name for v in state.of(mode, "slim")]


ONE, TWO, THREE = build(asr="1", vad="1"), build(asr="2", vad="1"), build(asr="3", vad="1")


def test_each_build_with_other_images_has_a_name_of_its_own() -> None:
    """And the images that it left as they were have that name too: it means all of the mode's."""
    state = after(ONE, TWO)
    assert of(state) == ["0.1.0", "0.1.0-r2"]
    names = versions.names(state.known)
    assert {tag: image.id for tag, image in names.items()} == {
        f"{ASR}-0.1.0": "1",
        f"{VAD}-0.1.0": "1",
        f"{ASR}-0.1.0-r2": "2",
        f"{VAD}-0.1.0-r2": "1",
    }
    assert of(after(ONE, TWO, build(version="0.2.0", asr="3", vad="1"))) == ["0.1.0", "0.1.0-r2", "0.2.0"]


def test_the_same_images_are_no_new_version() -> None:
    """A second build, and one after a commit that changes no image: that moves the name of the commit."""
    assert after(ONE, ONE) == after(ONE)
    state = after(build(asr="1", commit="g" + "a" * 12), build(asr="1", commit="g" + "b" * 12))
    assert [v.names for v in state.known] == [("0.1.0", "g" + "b" * 12)]
    assert state.leaving == {f"{ASR}-g{'a' * 12}": "1"}
    assert after(build(asr="1"), state=state).known == state.known, "with changed files it is still of that commit"


def test_the_oldest_go_and_their_names_leave() -> None:
    state = after(ONE, TWO, THREE, build(asr="4", vad="1"))
    assert of(state) == ["0.1.0-r2", "0.1.0-r3", "0.1.0-r4"]
    assert state.leaving == {f"{ASR}-0.1.0": "1", f"{VAD}-0.1.0": "1"}


@given(
    st.lists(st.tuples(st.sampled_from(["docker-cpu", "docker-gpu", "native"]), st.integers(0, 3), st.integers(0, 3)))
)
def test_no_name_is_given_twice_and_no_mode_keeps_more_than_a_few(builds: list[tuple[str, int, int]]) -> None:
    """What leaves is never a name that is still kept; a commit's aside, each name is of one build for good."""
    state, given_names = Versions(), {}
    for mode, asr, vad in builds:
        own = {"gpu": str(asr)} if mode == "docker-gpu" else {"asr": str(asr)} if mode == "docker-cpu" else {}
        state = noted(state, build(mode=mode, vad=str(vad), **own))
        kept = versions.names(state.known)
        assert not kept.keys() & state.leaving.keys()
        for tag, image in kept.items():
            assert given_names.setdefault(tag, image.id) == image.id
        for key in ("docker-cpu", "docker-gpu"):
            assert len(of(state, key)) <= KEPT
        assert of(state, "native") == []
        for mode_ in ("docker-cpu", "docker-gpu"):  # what modes share is the same in all of them
            newest = state.of(mode_, "slim")
            assert not newest or newest[-1].ids[VAD] == str(vad)


def test_modes_share_images_and_so_versions() -> None:
    """docker-gpu has vad's image of docker-cpu: a build of one is a version of both."""
    state = after(build(mode="docker-gpu", gpu="1", vad="1"), build(asr="1", vad="2"))
    assert of(state, "docker-gpu") == ["0.1.0", "0.1.0-r2"]
    assert state.of("docker-gpu", "slim")[-1].ids == {GPU: "1", VAD: "2"}
    assert of(after(build(vad="3", mode="native"), state=state)) == ["0.1.0-r2", "0.1.0-r3"], "native has no versions"


def test_a_job_changes_nothing_of_what_is_held() -> None:
    state = held(after(ONE, TWO), "0.1.0")
    assert noted(state, replace(THREE, ends_hold=False)) == state


def test_a_build_stands_on_what_was_held() -> None:
    """What was taken back is forgotten: the next rollback goes to the version that worked."""
    state = after(build(asr="4", vad="1"), state=held(after(ONE, TWO), "0.1.0"))
    assert of(state) == ["0.1.0", "0.1.0-r3"]
    assert state.holds == ()
    assert state.leaving == {f"{ASR}-0.1.0-r2": "2", f"{VAD}-0.1.0-r2": "1"}
    assert versions.target(state, "docker-cpu", "slim", None).name == "0.1.0"


def test_a_rollback_goes_one_back_each_time() -> None:
    state = after(ONE, TWO, THREE)
    assert versions.target(state, "docker-cpu", "slim", None).name == "0.1.0-r2"
    assert versions.target(held(state, "0.1.0-r2"), "docker-cpu", "slim", None).name == "0.1.0"
    with pytest.raises(UsageError, match=r"0\.1\.0 is the oldest that is kept"):
        versions.target(held(state, "0.1.0"), "docker-cpu", "slim", None)
    with pytest.raises(UsageError, match="no version is known yet"):
        versions.target(state, "docker-gpu", "slim", None)


def test_one_that_was_interrupted_is_finished_and_does_not_go_further_back() -> None:
    assert (
        versions.target(held(after(ONE, TWO, THREE), "0.1.0-r2", moving=True), "docker-cpu", "slim", None).name
        == "0.1.0-r2"
    )


@pytest.mark.parametrize(
    "wanted",
    ["0.1.0", "slim-cpu-0.1.0", ASR + "-0.1.0", "g" + "a" * 12, "a" * 40, "a" * 7, f"slim-cpu-g{'a' * 12}"],
)
def test_what_a_person_types(wanted: str) -> None:
    state = after(build(asr="1", commit="g" + "a" * 12), build(asr="2", commit="g" + "b" * 12))
    assert versions.target(state, "docker-cpu", "slim", wanted).name == "0.1.0"


@pytest.mark.parametrize("wanted", ["", "0.1", "0.1.0-r3", "g", "aaaaaa", "g" + "c" * 12, "slim-cpu", "-", "a\x1b[m"])
def test_what_is_not_kept_is_told_with_what_is(wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        versions.target(after(build(asr="1", commit="g" + "a" * 12)), "docker-cpu", "slim", wanted)
    assert caught.value.expected == "0.1.0, gaaaaaaaaaaaa"


def test_names_of_a_push_are_those_of_the_current_version() -> None:
    state = after(ONE, TWO)
    assert state.names_of(VAD, "m-1") == ("0.1.0-r2",), "an image that stayed has the version's name alone"
    assert state.names_of(ASR, "m-1") == ()
    back = held(state, "0.1.0")
    assert back.names_of(ASR, "m-1") == ("0.1.0",)
    assert back.holds_manifest(ASR, "m-1")
    assert not back.holds_manifest(ASR, "m-2")
    assert not held(state, "0.1.0", moving=True).holds_manifest(ASR, "m-1")


def test_it_is_read_as_it_was_written() -> None:
    state = held(after(ONE, TWO, THREE, build(asr="4", vad="1", commit="g" + "a" * 12)), "0.1.0-r3")
    assert versions.parsed(json.loads(json.dumps(versions.dumped(state)))) == state


@pytest.mark.parametrize("data", [{}, {"versions": 1}, {"versions": [{}], "holds": [], "numbers": {}, "leaving": {}}])
def test_a_damaged_file_knows_nothing(data: dict[str, object]) -> None:
    assert versions.parsed(data) == Versions()


def test_tags_of_versions_are_told_from_others() -> None:
    """Lists of images have each once, by the tag that moves."""
    assert versions.moving_tag("host:5000/wb/asr:slim-cpu-0.1.0-r2") == "host:5000/wb/asr:slim-cpu"
    assert versions.moving_tag(ASR) is None
    assert versions.moving_tag("wb/asr:job-12345678-123456789012") is None
    assert versions.in_tag("1.2.0rc1+local") == "1.2.0rc1-local"


def test_a_commit_is_named_where_the_files_are_its_own(tmp_path: Path) -> None:
    """Recordings and notes beside them don't matter; a file that images are made from does, and so does no git at all."""

    def git(*words: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True, text=True
        ).stdout

    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/main.py").write_text("pass\n")
    assert commit_of(tmp_path) == ""
    git("init", "-q")
    assert commit_of(tmp_path) == "", "no commit yet"
    git("add", ".")
    git("commit", "-qm", "x")
    head = git("rev-parse", "HEAD").strip()
    (tmp_path / "talk.wav").write_bytes(b"")
    assert commit_of(tmp_path) == f"g{head[:12]}"
    (tmp_path / "stages/more.py").write_text("pass\n")
    assert commit_of(tmp_path) == ""


@pytest.mark.parametrize(
    ("mode", "said", "wanted"),
    [
        ("docker-cpu", "today", "held"),  # another job's results are made again by what is held
        ("docker-cpu", "held", "held"),
        ("docker-gpu", "held", "held"),  # an image that both modes have
        ("docker-gpu", "other", "today"),
        ("native", "held", "today"),
    ],
)
def test_results_are_to_be_of_the_code_that_is_held(tmp_path: Path, mode: str, said: str, wanted: str) -> None:
    """Else a stage of an older image would be told that its code changed while it ran."""
    (tmp_path / "stages/asr").mkdir(parents=True)
    (tmp_path / "stages/asr/main.py").write_text("pass\n")
    config = replace(fixed.read({"mode": mode}), shipped=tmp_path, home=tmp_path)
    codes = {"held": "c" * 64, "other": "d" * 64, "today": outcome.code_digest(tmp_path / "stages", "asr")}
    state = held(after(ONE, TWO), "0.1.0")
    state = replace(state, holds=tuple(replace(hold, codes={"asr": codes["held"]}) for hold in state.holds))
    config.paths.versions.write_text(json.dumps(versions.dumped(state)))
    assert outcome._wanted_code(config, "asr", replace(GOOD, code=codes[said])) == codes[wanted]
