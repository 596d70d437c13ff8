"""What users write is read strictly: every mistake is named with file, line and the close match, and exit code 2."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder.core.config import parse as config
from builder.core.config.defaults import configure
from builder.core.config.types import Config
from builder.core.terms import Mode, Variant
from builder.core.weights import lock, model
from builder.core.weights.model import FilePin, Pin
from builder.edges.machine import project
from builder.errors import BakeError, ConfigError, UsageError

ROOT = Path(__file__).resolve().parents[2]

MODELS = """\
models:
  base: {purpose: asr, title: t, licence: MIT, hub: Systran/faster-whisper-base}
  vad: {purpose: vad, title: t, licence: MIT, target: onnx/vad, wheels: {w==1: "%s"}, files: {v.onnx: ["w==1:a/v.onnx"]}}
""" % ("0" * 64)
BAKE = """\
defaults:
  preset: p
presets:
  p: {summary: s, models: {asr: base}}
"""
STAGE = "name: one\nsummary: s\n"


def parse(
    bake: str = BAKE,
    models: str = MODELS,
    env: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
    **more: str,
) -> Config:
    """A config of small files; keys of ``more`` have __ for / and a . before yaml."""
    files = {"bake.yaml": bake, "models.yaml": models}
    files |= {name.replace("__", "/").replace("_yaml", ".yaml"): text for name, text in more.items()}
    return configure(config.read(files), root=Path("/p"), env=env or {}, home=None, overrides=flags or {})


def refused(bake: str = BAKE, models: str = MODELS, **more: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(bake, models, **more)
    assert caught.value.exit_code == 2
    return caught.value


def test_the_projects_own_files_are_right() -> None:
    """Every preset can be read, and the default one is pinned."""
    found = project.load(ROOT, env={})
    assert list(found.presets) == ["starter", "fast", "balanced", "high", "premium", "tiny-en"]
    assert {"base", "tiny.en", "silero-vad", "d-vector"} <= set(found.pins)
    assert next(iter(found.stages)) == "demux"
    order = list(found.stages)
    assert all(order.index(n) < order.index(s.name) for s in found.stages.values() for n in s.needs)


def test_an_unknown_key_names_its_line_and_the_close_match() -> None:
    """A misspelt key is never silently nothing."""
    error = refused("defaults:\n  preset: p\n  variannt: slim\npresets:\n  p: {summary: s, models: {asr: base}}\n")
    assert (error.where, error.hint) == ("bake.yaml:3", 'did you mean "variant"?')


@pytest.mark.parametrize(
    ("bake", "line", "word"),
    [
        ("defaults: {diarization: perhaps}\n" + "presets: {}\n", 1, "diarization"),
        ("presets:\n  p:\n    summary: s\n    models: {asr: bse}\n", 4, "bse"),
        ("presets:\n  p:\n    summary: s\n    models: {ars: base}\n", 4, "ars"),
        ("presets:\n  p:\n    summary: s\n    models: {vad: base}\n", 4, "base"),
        ("defaults:\n  preset: p\n  preset: q\n", 3, "twice"),
        ("defaults: [1, 2]\n", 1, "defaults"),
        ("- 1\n", 1, "mapping"),
        ("a: &x 1\nb: *x\n", 2, "alias"),
        ("a: [1\n", 2, "YAML"),
        ("1: 2\n", 1, "text"),
        ("base: {kind: debain}\n" + BAKE, 1, "debain"),
        ("base: {kind: registry}\n" + BAKE, 1, "which image"),
        ("base: {reference: python}\n" + BAKE, 1, "tag"),
        ("base: {reference: 'python:latest'}\n" + BAKE, 1, "latest"),
        ("base: {reference: '--privileged:x'}\n" + BAKE, 1, "tag"),
        ("base: {digest: 'sha256:12'}\n" + BAKE, 1, "digest"),
        ("base: {suite: '../x'}\n" + BAKE, 1, "suite"),
        ("network: {index_url: 'file:///x'}\n" + BAKE, 1, "index_url"),
        ("network: {proxy: 'a b'}\n" + BAKE, 1, "proxy"),
        (BAKE + "x: !!python/object/apply:os.system [id]\n", 5, "tags"),
        (BAKE + "x: !!binary aGk=\n", 5, "tags"),
        (BAKE + "x: " + "[" * 30 + "]" * 30 + "\n", 5, "deeper"),
        (BAKE + "<<: {a: b}\n", 5, "YAML"),
        (BAKE + "---\na: b\n", 5, "YAML"),
    ],
)
def test_mistakes_in_bake_yaml_are_refused_with_their_line(bake: str, line: int, word: str) -> None:
    """File and line of what is wrong, and the word that is wrong."""
    error = refused(bake)
    assert error.where == f"bake.yaml:{line}"
    assert word in error.what


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../b", "a//b", "~/x", "a\\b", "a/./b", "", "a\nb"])
def test_paths_that_lead_out_are_refused(path: str) -> None:
    """Neither a lock nor a catalogue can make the store write elsewhere."""
    pin = Pin(revision="r", files=(FilePin(path=path, size=1, sha256="0" * 64),))
    with pytest.raises(ConfigError, match="unsafe path"):
        lock.parse_lock(lock.dump_lock({"base": pin}))
    assert model.unsafe(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 50_000, "- " * 50_000, "x" * 2_000_000])
def test_what_could_eat_the_machine_is_refused(text: str) -> None:
    """Deep nesting and endless text end as an error, not as a stack overflow."""
    refused(text)


@pytest.mark.parametrize("path", ["a\u2028b", "a\u202eb", "a\x85b", "\ud800", "a\x00b", "x" * 201])
def test_paths_with_marks_that_mislead_are_refused(path: str) -> None:
    """Reading direction, line separators, half surrogates, names no disk takes."""
    assert model.unsafe(path)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A file of the project is its own: a link could name anything on this machine."""
    (tmp_path / "bake.yaml").write_text(BAKE)
    (tmp_path / "models.yaml").write_text(MODELS)
    assert project.load(tmp_path, env={}).root == tmp_path
    outside = tmp_path / "elsewhere.yaml"
    outside.write_text(STAGE)
    (tmp_path / "stages" / "one").mkdir(parents=True)
    (tmp_path / "stages" / "one" / "stage.yaml").symlink_to(outside)
    with pytest.raises(ConfigError, match="a link") as caught:
        project.load(tmp_path, env={})
    assert caught.value.where == "stages/one/stage.yaml"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: \x00"])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes) -> None:
    """Named by file, without a traceback."""
    (tmp_path / "bake.yaml").write_bytes(content)
    (tmp_path / "models.yaml").write_text(MODELS)
    with pytest.raises(ConfigError) as caught:
        project.load(tmp_path, env={})
    assert str(caught.value.where).startswith("bake.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Half a checkout says which half is missing; a missing lock only means that nothing is pinned."""
    (tmp_path / "bake.yaml").write_text(BAKE)
    with pytest.raises(ConfigError, match="not there") as caught:
        project.load(tmp_path, env={})
    assert caught.value.where == "models.yaml"
    (tmp_path / "models.yaml").write_text(MODELS)
    assert project.load(tmp_path, env={}).pins == {}


def test_the_root_is_found_from_below_and_from_elsewhere(tmp_path: Path) -> None:
    """Commands work from any folder."""
    (tmp_path / "bake.yaml").write_text(BAKE)
    (tmp_path / "models.yaml").write_text(MODELS)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert project.find_root(below, {}) == tmp_path
    assert project.find_root(Path("/"), {}) == ROOT


def test_folders_are_relative_to_where_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bake.yaml's beside bake.yaml; a variable's where the command was typed."""
    (tmp_path / "bake.yaml").write_text(BAKE.replace("preset: p", "preset: p\n  sources: [stick, /abs]"))
    (tmp_path / "models.yaml").write_text(MODELS)
    assert project.load(tmp_path, env={}).defaults.sources == (str(tmp_path / "stick"), "/abs")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    found = project.load(tmp_path, env={"BAKE_SOURCES": "one:two", "BAKE_HOME": "state", "BAKE_JOBS": "jobs"})
    assert found.defaults.sources == (str(here / "one"), str(here / "two"))
    assert (found.home, found.jobs) == (here / "state", here / "jobs")
    assert project.load(tmp_path, env={"BAKE_HOME": "state"}, home=Path("flag")).home == here / "flag"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name: one\nsummary: s\nneeds: [two, two]\n", "twice"),
        ("name: one\nsummary: s\nneeds: [one]\n", "circle"),
        ("name: one\nsummary: s\nuses: [ars]\n", "ars"),
        ("name: one\nsummary: s\nmemory_mb: 0\n", "MB"),
        ("name: one\nsummary: s\nmemory_mb: '512'\n", "memory_mb"),
        ("name: one\nsummary: s\nmemory_mb_hour: -1\n", "-1 MB"),
        ("name: one\nsummary: s\nmemory_full_mb_hour: 2000000\n", "MB"),
        ("name: one\nsummary: s\nrequirements: {slmi: a.txt}\n", "slmi"),
        ("name: one\nsummary: s\nrequirements: {slim: /etc/passwd}\n", "unsafe path"),
        ("name: one\nsummary: s\nsettings: {a: [1]}\n", "settings"),
        ("name: one\n", "summary"),
    ],
)
def test_mistakes_in_a_stage_are_refused(text: str, word: str) -> None:
    """With the file's name."""
    error = refused(stages__one__stage_yaml=text, stages__two__stage_yaml="name: two\nsummary: s\n")
    assert word in error.what
    assert str(error.where).startswith("stages/one/stage.yaml:")


@pytest.mark.parametrize("package", ["-o=x", "a;b", "A", "$(id)", "a b"])
def test_packages_of_an_image_are_names(package: str) -> None:
    """They end up in a Dockerfile."""
    assert "Debian package" in refused(images__x_yaml=f"name: x\ndebian_packages: ['{package}']\n").what


def test_circles_are_refused() -> None:
    """Stages that wait for each other, images that stand on each other."""
    a, b = "name: a\nsummary: s\nneeds: [b]\n", "name: b\nsummary: s\nneeds: [a]\n"
    assert "circle" in refused(stages__a__stage_yaml=a, stages__b__stage_yaml=b).what
    assert "circle" in refused(images__a_yaml="name: a\nparent: b\n", images__b_yaml="name: b\nparent: a\n").what


def test_names_must_fit_their_files() -> None:
    """A stage is called as its folder: what a job names is what is run."""
    error = refused(stages__two__stage_yaml=STAGE)
    assert error.where == "stages/two/stage.yaml:1"
    assert 'no stage "onn"' in refused(stages__one__stage_yaml=STAGE, images__x_yaml="name: x\nstage: onn\n").what


def test_precedence_is_default_file_environment_flag() -> None:
    """Each wins over the one before."""
    assert parse().defaults.variant is Variant.SLIM
    with_file = BAKE.replace("preset: p", "preset: p\n  mode: docker-cpu")
    assert parse(with_file).defaults.mode is Mode.DOCKER_CPU
    assert parse(with_file, env={"BAKE_MODE": "docker-gpu"}).defaults.mode is Mode.DOCKER_GPU
    assert parse(with_file, env={"BAKE_MODE": "docker-gpu"}, flags={"mode": "native"}).defaults.mode is Mode.NATIVE
    assert parse(env={"BAKE_DIARIZATION": "no"}).defaults.diarization is False
    assert parse(env={"BAKE_HOME": "/h"}).home == Path("/h")


@pytest.mark.parametrize(
    ("env", "where", "hint"),
    [
        ({"BAKE_PRESETT": "p"}, "environment", 'did you mean "BAKE_PRESET"?'),
        ({"BAKE_PRESET": "pp"}, "BAKE_PRESET", 'did you mean "p"?'),
        ({"BAKE_VARIANT": "slimm"}, "BAKE_VARIANT", 'did you mean "slim"?'),
        ({"BAKE_DIARIZATION": "perhaps"}, "environment", None),
        ({"BAKE_LANGUAGE": "xx"}, "BAKE_LANGUAGE", None),
        ({"BAKE_WORKFLOW": "subtitel"}, "BAKE_WORKFLOW", 'did you mean "subtitle"?'),
        ({"BAKE_REGISTRY": "--help"}, "BAKE_REGISTRY", None),
        ({"BAKE_REGISTRY": "a:b:c"}, "BAKE_REGISTRY", None),
    ],
)
def test_variables_are_checked_like_files(env: dict[str, str], where: str, hint: str | None) -> None:
    """A misspelt variable is an error, not a default."""
    with pytest.raises(UsageError) as caught:
        parse(env=env)
    assert (caught.value.where, caught.value.hint) == (where, hint)


def test_wheel_members_must_belong_to_a_pinned_wheel() -> None:
    """Bytes of an unpinned wheel never enter the tree."""
    bad = MODELS.replace('"w==1:a/v.onnx"', '"v==1:a/v.onnx"')
    assert 'no wheel "v==1"' in refused(models=bad).what
    assert "pinned wheel" in refused(models=MODELS.replace("0" * 64, "0" * 63)).what


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=20)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
PINS = st.builds(
    lambda revision, files, records: Pin(
        revision=revision,
        files=tuple(FilePin(path=p, size=s, sha256=h) for p, (s, h) in sorted(files.items())),
        records=tuple(records),
    ),
    revision=st.text("0123456789abcdef", min_size=40, max_size=40),
    files=st.dictionaries(
        NAMES.filter(lambda p: model.unsafe(p) is None),
        st.tuples(st.integers(0, 1 << 40), HEX),
        min_size=1,
        max_size=3,
    ),
    records=st.lists(NAMES, max_size=2),
)


@given(st.dictionaries(st.from_regex(r"[a-z0-9][a-z0-9.-]{0,9}", fullmatch=True), PINS, max_size=3))
def test_a_lock_reads_back_as_it_was_written(pins: dict[str, Pin]) -> None:
    """Whatever the names, digests (also all-digit ones, or 1e9) and sizes: YAML changes none of them."""
    text = lock.dump_lock(pins)
    assert lock.parse_lock(text) == dict(sorted(pins.items()))
    assert lock.dump_lock(lock.parse_lock(text)) == text


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never another exception than our own."""
    with contextlib.suppress(BakeError):
        config.read({"bake.yaml": text})


KEYS = st.sampled_from(
    ["defaults", "presets", "base", "network", "p", "models", "asr", "summary", "sources", "x", "kind"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=5) | st.just("base"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_shape_is_read_or_refused_with_its_line(tree: dict[str, object]) -> None:
    """Whatever stands where: a config, or an error that points into the file."""
    refusals: list[UsageError] = []
    try:
        parse(yaml.safe_dump(tree))
    except UsageError as error:
        refusals.append(error)
    assert all(e.exit_code == 2 and str(e.where).startswith("bake.yaml") for e in refusals)


LEVELS = st.fixed_dictionaries(
    {}, optional={k: st.sampled_from([m.value for m in Mode]) for k in ("file", "env", "flag")}
)


@given(LEVELS)
def test_the_nearest_setting_wins(levels: dict[str, str]) -> None:
    """Flag, else environment, else file, else default; an empty variable is none."""
    bake = BAKE if "file" not in levels else BAKE.replace("preset: p", f"preset: p\n  mode: {levels['file']}")
    env = {"BAKE_MODE": levels.get("env", "")}
    flags: dict[str, object] = {"mode": levels["flag"]} if "flag" in levels else {}
    expected = levels.get("flag") or levels.get("env") or levels.get("file") or "native"
    assert parse(bake, env=env, flags=flags).defaults.mode.value == expected


EDGES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=14)


@given(EDGES)
def test_stages_come_after_their_needs_or_are_refused(edges: list[tuple[int, int]]) -> None:
    """Any graph: an order that holds, the same one every time, or a circle that is one."""
    needs: dict[int, list[int]] = {n: sorted({b for a, b in edges if a == n}) for n in range(7)}
    texts = {
        f"stages/s{n}/stage.yaml": f"name: s{n}\nsummary: s\nneeds: [{', '.join(f's{m}' for m in needs[n])}]\n"
        for n in needs
    }
    files = {"bake.yaml": BAKE, "models.yaml": MODELS, **texts}
    try:
        order = list(config.read(files).stages)
    except ConfigError as error:
        circle = error.what.removeprefix("a circle: ").split(" → ")
        order = []
    if order:
        assert all(order.index(f"s{b}") < order.index(f"s{a}") for a, b in edges)
    else:
        assert circle[0] == circle[-1]
        assert all((int(b[1:]), int(a[1:])) in edges for a, b in pairwise(circle))
