"""The stages' settings: what each may be, who wins, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.core.config import settings
from builder.core.config.types import Config, StageSetting
from builder.core.jobs.request import JobOptions, plan_stages, request_key, resolve
from builder.core.machine import GB, Hardware, recommend
from builder.core.terms import Purpose, Workflow
from builder.edges.machine import project
from builder.errors import ConfigError, UsageError
from builder.views.machine import setting_cells
from tests.unit.test_config import parse
from tests.unit.test_request import models

ROOT = Path(__file__).resolve().parents[2]
STAGES = project.load(ROOT, env={}).stages

WHOLE = StageSetting(type="int", default=5, summary="", minimum=1, maximum=20)
NUMBER = StageSetting(type="float", default=1.0, summary="", minimum=0.5, maximum=2)
TEXT = StageSetting(type="str", default=None, summary="", longest=8)
WORD = StageSetting(type="str", default="mix", summary="", choices=("mix", "split"))
FLAG = StageSetting(type="bool", default=True, summary="")


def load(**given: Any) -> Config:
    """This project's configuration; ``env``, ``profile`` and ``settings`` as a command has them."""
    env = given.pop("env", {})
    return project.load(ROOT, env=env, overrides=given)


def told(*words: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load(settings=words)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        (WHOLE, "8", 8),
        (WHOLE, " 20 ", 20),
        (WHOLE, "8.0", 8),
        (NUMBER, "1", 1.0),
        (NUMBER, "0.5", 0.5),
        (TEXT, "a = b", "a = b"),
        (TEXT, "", None),
        (WORD, "split", "split"),
        (FLAG, "No", False),
        (FLAG, "on", True),
    ],
)
def test_typed_values(setting: StageSetting, text: str, value: object) -> None:
    """Text becomes the setting's type; nothing is nothing where that may be."""
    parsed = settings.parsed(setting, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (WHOLE, "21"),
        (WHOLE, "0"),
        (WHOLE, "8.5"),
        (WHOLE, "1e1"),
        (WHOLE, ""),
        (WHOLE, "nan"),
        (NUMBER, "inf"),
        (NUMBER, "2.01"),
        (TEXT, "123456789"),
        (TEXT, "a\x1bb"),
        (WORD, "Split"),
        (WORD, ""),
        (FLAG, "2"),
    ],
)
def test_typed_values_that_are_refused(setting: StageSetting, text: str) -> None:
    """Beyond a limit, of another type, or none of the words."""
    with pytest.raises(ValueError, match=r"\w"):
        settings.parsed(setting, text)


@pytest.mark.parametrize(
    ("setting", "value"), [(WHOLE, "8"), (WHOLE, True), (WHOLE, None), (FLAG, 1), (FLAG, "true"), (TEXT, True)]
)
def test_a_file_s_values_have_their_type(setting: StageSetting, value: object) -> None:
    """YAML has types, and a quoted number is none."""
    with pytest.raises(ValueError, match="is not"):
        settings.checked(setting, value)


@pytest.mark.parametrize(
    ("word", "what", "help_"),
    [
        ("subtitle.lines=1", 'no stage "subtitle"', 'did you mean "subtitles"? python3 build.py settings lists all'),
        (
            "subtitles.lins=1",
            'stage subtitles has no setting "lins"',
            'did you mean "lines"? python3 build.py settings subtitles lists them',
        ),
        ("subtitles.lines=7", "subtitles.lines: 7 is not a whole number from 1 to 6", settings.LISTED),
        ("demux.channels=splt", 'demux.channels: "splt" is not mix or split', 'did you mean "split"? python3 build.py'),
        ("asr.language=de", "asr.language is not set by itself", "use --language"),
        ("lines=1", '"lines=1" is not a setting', settings.LISTED),
        ("subtitles.lines", '"subtitles.lines" is not a setting', settings.LISTED),
    ],
)
def test_a_wrong_setting_names_what_is_near_and_where_all_are(word: str, what: str, help_: str) -> None:
    """Before anything else is done."""
    error = told(word)
    assert error.what == what
    assert str(error.hint).startswith(help_)
    assert error.where == "--set"


def test_a_setting_is_typed_once() -> None:
    """Which of two was meant nobody knows."""
    assert told("asr.beam_size=1", "asr.beam_size=2").what == "asr.beam_size is there twice"


def test_who_wins() -> None:
    """An option over a variable, a variable over the profile; and each says where it is from."""
    env = {"BAKE_SET": 'subtitles.lines=1 asr.hotwords="Ada Lovelace"', "BAKE_PROFILE": "children"}
    found = load(env=env, settings=["subtitles.chars_per_second=20"]).settings
    lines, speed, gap = (found["subtitles"][name] for name in ("lines", "chars_per_second", "gap"))
    assert (lines.value, lines.where) == (1, "BAKE_SET subtitles.lines")
    assert (speed.value, speed.where) == (20.0, "--set subtitles.chars_per_second")
    assert gap.value == 0.083
    assert gap.where.startswith("bake.yaml:")
    assert found["asr"]["hotwords"].value == "Ada Lovelace"
    assert load(env=env, profile="broadcast").settings["subtitles"]["chars_per_second"].value == 17.0


BAKE = """\
defaults: {preset: p}
presets:
  p: {summary: s, models: {asr: base}}
  q: {summary: s, models: {asr: base}}
settings:
  one: {size: 3, name: x}
profiles:
  large:
    summary: s
    defaults: {preset: q, language: German, diarization: false}
    settings: {one: {size: 9}}
"""
STAGE = """\
name: one
summary: s
settings:
  size: {type: int, default: 1, min: 1, max: 9, help: how much}
  name: {type: str, default: null, help: who}
"""


def small(bake: str = BAKE, stage: str = STAGE, **more: Any) -> Config:
    return parse(bake, stages__one__stage_yaml=stage, **more)


def test_a_profile_changes_defaults_and_settings() -> None:
    """Over bake.yaml's own, below variables and options."""
    found = small()
    assert {name: chosen.value for name, chosen in found.settings["one"].items()} == {"size": 3, "name": "x"}
    found = small(flags={"profile": "large"})
    assert {name: chosen.value for name, chosen in found.settings["one"].items()} == {"size": 9, "name": "x"}
    assert (found.defaults.preset, found.defaults.language, found.defaults.diarization) == ("q", "de", False)
    assert small(flags={"profile": "large", "preset": "p"}).defaults.preset == "p"
    assert small(env={"BAKE_PROFILE": "large", "BAKE_LANGUAGE": "fr"}).defaults.language == "fr"
    assert small(BAKE.replace("{preset: p}", "{preset: p, profile: large}")).defaults.preset == "q"


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("size: 3", "siz: 3", "bake.yaml:6"),
        ("size: 3", "size: '3'", "bake.yaml:6"),
        ("{size: 9}", "{size: 10}", "bake.yaml:11"),
        ("one: {size: 3", "on: {size: 3", "bake.yaml:6"),
        ("preset: q,", "preset: r,", "bake.yaml:10"),
        ("preset: q,", "mode: native,", "bake.yaml:10"),
        ("  large:", "  Large:", "bake.yaml:8"),
    ],
)
def test_a_file_s_mistake_is_named_with_its_line(old: str, new: str, where: str) -> None:
    """Also in a profile that nobody chose."""
    with pytest.raises(UsageError) as caught:
        small(BAKE.replace(old, new))
    assert caught.value.where == where


@pytest.mark.parametrize("new", ["type: number", "default: 0", "default: a", "max: 0", "min: null"])
def test_a_stage_s_own_settings_are_checked(new: str) -> None:
    """A default that is none of its values would be found by the first job."""
    key = new.split(":")[0]
    old = {"type": "type: int", "default": "default: 1", "max": "max: 9", "min": "min: 1"}[key]
    with pytest.raises(ConfigError) as caught:
        small(stage=STAGE.replace(old, new, 1))
    assert str(caught.value.where).startswith("stages/one/stage.yaml:4")


def test_an_unknown_profile_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(UsageError) as caught:
        load(profile="brodcast")
    assert (caught.value.what, caught.value.where) == ('no profile "brodcast"', "--profile")
    assert caught.value.expected == "netflix, bbc, ebu, web, broadcast, children"
    assert caught.value.hint == 'did you mean "broadcast"?'


def test_settings_reach_the_job_and_its_key() -> None:
    """Another setting is another request: an unfinished job of the old one is not resumed."""
    machine = Hardware(system="Linux", machine="x86_64", cpu="cpu", cores=4, threads=8, memory=16 * GB)

    def planned(*words: str) -> tuple[dict[str, Any], str]:
        config = load(settings=words)
        request = resolve(JobOptions(), config=config, hardware=machine, advice=recommend(machine), models=models())
        stages = plan_stages(config.stages, request, workflow=Workflow.SUBTITLE)
        settings_ = {stage.name: dict(stage.settings) for stage in stages}
        return settings_, request_key([], stages, "subtitle")

    plain, key = planned()
    changed, other = planned("subtitles.lines=1", "vad.threshold=0.4")
    assert (plain["subtitles"]["lines"], changed["subtitles"]["lines"], changed["vad"]["threshold"]) == (2, 1, 0.4)
    assert other != key
    assert planned()[1] == key
    assert all(set(spec.settings) <= set(plain[name]) for name, spec in STAGES.items() if name in plain)
    assert Purpose.ASR in models()


def test_the_page_of_settings_is_the_stages_own() -> None:
    """docs/settings.md has a row for each setting, and none besides."""
    rows = [line for line in (ROOT / "docs/settings.md").read_text().splitlines() if line.startswith("| `")]
    wanted = []
    for spec in STAGES.values():
        for name, setting in spec.settings.items():
            path, may_be, default, meaning = setting_cells(spec.name, name, setting)
            wanted.append(f"| `{path}` | {default} | {may_be} | {meaning} |")
    assert rows == wanted
