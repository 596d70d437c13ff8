"""The rules that make a job's request of options, configuration and machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from builder.core.config import selection
from builder.core.config.types import Config
from builder.core.jobs.job import Clip
from builder.core.jobs.request import JobOptions, Request, resolve
from builder.core.machine import GB, Gpu, Hardware, recommend
from builder.core.terms import Mode, Purpose, Variant, Workflow
from builder.core.weights.model import Model, Pin
from builder.edges.machine import project
from builder.errors import MissingError, UsageError

CONFIG = project.load(Path(__file__).resolve().parents[2], env={})

LAPTOP = Hardware(system="Linux", machine="x86_64", cpu="cpu", cores=4, threads=8, memory=16 * GB)
"""A machine without a GPU."""

WORKSTATION = replace(LAPTOP, cores=16, gpus=(Gpu(name="gpu", memory=24 * GB, driver="550", cuda="12.4"),))
"""A machine whose GPU holds every model."""


def with_defaults(**changed: object) -> Config:
    return replace(CONFIG, defaults=replace(CONFIG.defaults, **changed))  # type: ignore[arg-type]


def models(config: Config = CONFIG) -> Mapping[Purpose, tuple[Model, Pin]]:
    chosen = selection.choose(config, preset="starter", variant=Variant.SLIM, stages=list(config.stages))
    return {purpose: (model, config.pins[model.id]) for purpose, model in chosen.items()}


def asked(config: Config = CONFIG, hardware: Hardware = LAPTOP, **options: object) -> Request:
    return resolve(
        JobOptions(**options),  # type: ignore[arg-type]
        config=config,
        hardware=hardware,
        advice=recommend(hardware),
        models=models(),
    )


def refused(config: Config = CONFIG, hardware: Hardware = LAPTOP, **options: object) -> tuple[str, str | None, str]:
    """What an error says, where, and what helps: its hint, or what is expected."""
    with pytest.raises((UsageError, MissingError)) as caught:
        asked(config, hardware, **options)
    return caught.value.what, caught.value.where, str(caught.value.hint or caught.value.expected)


def test_a_clip_ends_after_it_starts() -> None:
    """Also where it starts by default, and a clip of no length is none."""
    late = ("the clip ends before it starts", "--end", "more than 90 s")
    assert refused(start="1:30", end="80") == late
    assert refused(start="1:30", end="1:30") == late
    assert refused(end="0") == ("the clip ends before it starts", "--end", "more than 0 s")


@pytest.mark.parametrize("flag", ["start", "end"])
def test_a_time_that_can_t_be_read_is_refused_with_its_flag(flag: str) -> None:
    """Not the other one's."""
    assert refused(**{flag: "noon"})[:2] == ('"noon" is not a time', f"--{flag}")


def test_speakers_are_counted_by_diarization_alone() -> None:
    """Whether a flag or the configuration leaves it out."""
    needs = ("--speakers needs diarization", None, "leave out --no-diarization")
    assert refused(speakers=2, diarization=False) == needs
    assert refused(with_defaults(diarization=False), speakers=2) == needs
    assert asked(speakers=2).settings["diarize"]["speakers"] == 2


def test_a_model_that_cannot_tell_the_language_is_told_it() -> None:
    """Before anything is made; one that knows a single language needs no word."""

    def with_asr(id_: str, language: str | None) -> Request:
        other = {**models(), Purpose.ASR: (CONFIG.models[id_], CONFIG.pins[id_])}
        config, advice = with_defaults(language=language), recommend(LAPTOP)
        return resolve(JobOptions(), config=config, hardware=LAPTOP, advice=advice, models=other)

    for language in (None, "ja", "auto-segments"):
        with pytest.raises(UsageError, match="can't tell which language is spoken") as caught:
            with_asr("parakeet-tdt-0.6b-v3", language)
        assert caught.value.where == "--language"
    assert with_asr("parakeet-tdt-0.6b-v3", "de").settings["asr"]["language"] == "de"
    assert with_asr("parakeet-tdt-0.6b-v2", None).settings["asr"]["language"] is None
    assert with_asr("base", None).settings["asr"]["language"] is None
    assert with_asr("gigaam-v3-rnnt", None).settings["asr"]["language"] is None


def test_who_translates() -> None:
    """Whisper of many languages, and a model of certain ones where the catalogue says so; it is told what is spoken."""

    def translated(id_: str, language: str | None) -> Request:
        other = {**models(), Purpose.ASR: (CONFIG.models[id_], CONFIG.pins[id_])}
        options, advice = JobOptions(task="translate"), recommend(LAPTOP)
        return resolve(options, config=with_defaults(language=language), hardware=LAPTOP, advice=advice, models=other)

    assert translated("canary-180m-flash", "de").settings["asr"]["task"] == "translate"
    assert translated("base", None).settings["asr"]["task"] == "translate"
    with pytest.raises(UsageError, match="can't tell which language is spoken"):
        translated("canary-180m-flash", None)
    with pytest.raises(UsageError, match=r"knows bg, .* only: it can't translate"):
        translated("parakeet-tdt-0.6b-v3", "de")


def test_an_unknown_device_is_refused() -> None:
    """With those that there are."""
    assert refused(device="tpu") == ('"tpu" is not a device', "--device", "cpu or cuda")


def test_cpu_images_get_no_gpu() -> None:
    """Asked for one they refuse; where the machine has one they leave it alone."""
    config = with_defaults(mode=Mode.DOCKER_CPU)
    assert refused(config, WORKSTATION, device="cuda") == (
        "images of docker-cpu can't use a GPU",
        "--device",
        "--mode docker-gpu",
    )
    assert asked(config, WORKSTATION).settings["asr"]["device"] == "cpu"


def test_a_gpu_that_is_not_there_is_refused() -> None:
    """Whether it was asked for or advised by what the machine had before."""
    gone = ("this machine has no NVIDIA GPU", "--device", "--device cpu")
    assert refused(device="cuda") == gone
    with pytest.raises(MissingError) as caught:
        resolve(JobOptions(), config=CONFIG, hardware=LAPTOP, advice=recommend(WORKSTATION), models=models())
    assert (caught.value.what, caught.value.exit_code) == (gone[0], 3)


def test_gpu_images_are_for_a_gpu_unless_the_processor_is_asked_for() -> None:
    """2 GB were built and the job ran on the processor without a word."""
    config = with_defaults(mode=Mode.DOCKER_GPU)
    gone = ("this machine has no NVIDIA GPU", "--mode", "--device cpu, or --mode docker-cpu, whose images are smaller")
    assert refused(config) == gone
    assert refused(config, device="cuda") == (gone[0], "--device", gone[2])
    on_cpu = asked(config, device="cpu")
    assert on_cpu.settings["asr"]["device"] == "cpu"
    assert not on_cpu.on_gpu
    assert asked(config, WORKSTATION).on_gpu


def test_a_machine_s_own_settings_are_the_default() -> None:
    """Device, compute type, batches and threads suit the machine."""
    assert asked().settings["asr"] == {
        "device": "cpu",
        "threads": 4,
        "language": None,
        "compute_type": "int8",
        "batch_size": 4,
    }
    assert asked(hardware=WORKSTATION).settings["asr"] == {
        "device": "cuda",
        "threads": 16,
        "language": None,
        "compute_type": "float16",
        "batch_size": 16,
    }


def test_a_job_that_leaves_the_gpu_takes_the_processor_s_compute_type() -> None:
    """A processor computes float16 slowly, or not at all."""
    on_cpu = asked(hardware=WORKSTATION, device="cpu").settings["asr"]
    assert (on_cpu["device"], on_cpu["compute_type"]) == ("cpu", "int8")


def test_an_option_wins_over_what_suits_the_machine() -> None:
    """Also a batch size of zero."""
    settings = asked(hardware=WORKSTATION, threads=3, batch_size=0).settings
    assert settings["asr"]["batch_size"] == 0
    assert {settings[stage]["threads"] for stage in ("asr", "align", "diarize", "translate")} == {3}
    assert asked(batch_size=5).settings["asr"]["batch_size"] == 5


@pytest.mark.parametrize("variant", list(Variant))
def test_a_stage_gets_the_gpu_where_its_variant_gains_from_one(variant: Variant) -> None:
    """As its stage.yaml says; the others stay on the processor."""
    config = with_defaults(variant=variant)
    request = asked(config, WORKSTATION)
    devices = {stage: request.settings[stage]["device"] for stage in ("asr", "align", "diarize")}
    assert devices == {stage: "cuda" if variant in config.stages[stage].gpu else "cpu" for stage in devices}
    assert "cuda" in devices.values()
    assert request.variant == variant.value


def test_a_clip_is_what_was_asked_for() -> None:
    """None where nothing was; from the beginning or to the end where one side was."""
    assert asked().clip is None
    assert asked(start="1:30").clip == Clip(start=90.0, end=None)
    assert asked(end="2:00").clip == Clip(start=0.0, end=120.0)
    assert asked(start="1:30", end="2:00.5").clip == Clip(start=90.0, end=120.5)
    assert asked(start="0").clip == Clip(start=0.0)


def test_the_configuration_s_defaults_reach_the_request() -> None:
    """Workflow, preset, language, diarization; and the models that were chosen."""
    config = with_defaults(workflow=Workflow.TRANSCRIBE, preset="high", language="de", diarization=False)
    request = asked(config)
    assert (request.workflow, request.preset, request.diarization) == (Workflow.TRANSCRIBE, "high", False)
    assert request.settings["asr"]["language"] == "de"
    assert request.models == models()
    assert asked().diarization
    assert "speakers" not in asked().settings["diarize"]
    assert not asked(diarization=False).diarization


@pytest.mark.parametrize(
    ("typed", "track"), [(None, None), ("auto", None), ("2", 2), ("all", "all"), ("French", "fr"), ("en-US", "en")]
)
def test_a_track_is_a_number_a_language_or_all(typed: str | None, track: object) -> None:
    """As the demux stage takes it."""
    assert asked(track=typed).settings["demux"].get("track") == track


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"track": "0"}, "--track"),
        ({"track": "xx"}, "--track"),
        ({"channels": "both"}, "--channels"),
        ({"times": "utc"}, "--times"),
    ],
)
def test_what_a_track_a_channel_and_times_can_t_be_is_refused(options: dict[str, str], flag: str) -> None:
    assert refused(**options)[1] == flag


def chosen(**flags: object) -> Config:
    """The project's configuration with settings of ``--set`` or BAKE_SET."""
    return project.load(Path(__file__).resolve().parents[2], env=flags.pop("env", {}), overrides=flags)  # type: ignore[arg-type]


def test_the_number_of_speakers_is_said_in_one_way() -> None:
    """A number, or bounds that can be; and bounds need diarization too."""
    assert asked(min_speakers=2, max_speakers=4).settings["diarize"]["max_speakers"] == 4
    assert asked(min_speakers=3, max_speakers=3).settings["diarize"]["min_speakers"] == 3
    assert refused(speakers=2, max_speakers=3)[0] == "--speakers says how many: --max-speakers adds nothing"
    assert refused(min_speakers=4, max_speakers=3)[:2] == (
        "at least 4 speakers and at most 3 can't be",
        "--min-speakers",
    )
    assert refused(min_speakers=2, diarization=False)[0] == "--min-speakers needs diarization"
    assert refused(speakers=31)[:2] == ("31 is not a whole number from 1 to 30, or nothing", "--speakers")


def test_what_is_typed_of_speakers_replaces_what_is_configured() -> None:
    """Each in the place of the other; together in the configuration they contradict each other."""
    few = chosen(env={"BAKE_SET": "diarize.speakers=2"})
    assert asked(few).settings["diarize"]["speakers"] == 2
    typed = asked(few, max_speakers=5).settings["diarize"]
    assert (typed["speakers"], typed["max_speakers"]) == (None, 5)
    bounds = chosen(env={"BAKE_SET": "diarize.min_speakers=2 diarize.max_speakers=5"})
    typed = asked(bounds, speakers=3).settings["diarize"]
    assert (typed["speakers"], typed["min_speakers"], typed["max_speakers"]) == (3, None, None)
    assert refused(chosen(env={"BAKE_SET": "diarize.speakers=2 diarize.min_speakers=2"}))[0].startswith(
        "diarize.speakers says how many"
    )


def test_an_option_wins_over_a_setting_but_not_over_set() -> None:
    """Both typed in one command is a contradiction."""
    quiet = chosen(env={"BAKE_SET": "asr.batch_size=4 asr.threads=1 diarize.threads=2 translate.threads=2"})
    assert asked(quiet).settings["asr"]["batch_size"] == 4
    assert asked(quiet, batch_size=2).settings["asr"]["batch_size"] == 2
    for stage in ("diarize", "translate"):
        assert asked(quiet).settings[stage]["threads"] == 2
        assert asked(quiet, threads=3).settings[stage]["threads"] == 3
    twice = refused(chosen(settings=["diarize.speakers=3"]), speakers=2)
    assert twice[0] == "--speakers and --set diarize.speakers set the same"


def test_a_stage_s_device_is_checked_as_the_option_is() -> None:
    """A GPU that isn't there, or that the stage doesn't use."""
    gpu = chosen(settings=["asr.device=cuda"])
    assert refused(gpu)[:2] == ("this machine has no NVIDIA GPU", "--set asr.device")
    assert asked(gpu, WORKSTATION).settings["asr"]["device"] == "cuda"
    slow = asked(chosen(settings=["asr.device=cpu"]), WORKSTATION).settings["asr"]
    assert (slow["device"], slow["compute_type"]) == ("cpu", "int8")
    assert refused(chosen(settings=["diarize.device=cuda"]), WORKSTATION)[1] == "--set diarize.device"


def test_one_language_can_t_be_translated() -> None:
    """Said before a model is loaded; a model of many languages can."""
    assert asked(task="translate").settings["asr"]["task"] == "translate"
    english = CONFIG.models["tiny.en"]
    with pytest.raises(UsageError) as caught:
        resolve(
            JobOptions(task="translate"),
            config=CONFIG,
            hardware=LAPTOP,
            advice=recommend(LAPTOP),
            models={**models(), Purpose.ASR: (english, CONFIG.pins["tiny.en"])},
        )
    assert (caught.value.what, caught.value.where) == (
        'model "tiny.en" knows en only: it can\'t translate',
        "--task translate",
    )
    assert refused(task="translat")[2] == 'did you mean "translate"?'


def test_durations_that_can_t_be_are_refused() -> None:
    """Also where one of them is the stage's default."""
    assert "can't be" in refused(chosen(settings=["subtitles.min_duration=8"]))[0]
    assert asked(chosen(settings=["subtitles.min_duration=7"])).settings["subtitles"] == {"min_duration": 7.0}


def test_each_part_may_have_its_own_language() -> None:
    """By a model that can tell them apart; no single language is chosen for anything else."""
    each = with_defaults(language="auto-segments")
    assert asked(each).settings["asr"]["language"] == "auto-segments"
    english = selection.choose(CONFIG, preset="tiny-en", variant=Variant.SLIM, stages=list(CONFIG.stages))
    with pytest.raises(UsageError, match="knows en only") as caught:
        resolve(
            JobOptions(),
            config=each,
            hardware=LAPTOP,
            advice=recommend(LAPTOP),
            models={purpose: (model, CONFIG.pins[model.id]) for purpose, model in english.items()},
        )
    assert caught.value.where == "--language auto-segments"


def test_stages_that_nothing_is_asked_of_are_left_out() -> None:
    """They take time and memory, and some have models of their own."""
    rare = {"translate", "names", "separate", "metadata", "music"}
    assert asked().left_out == rare
    assert asked(diarization=False).left_out == {*rare, "diarize"}
    assert asked(separate="off").left_out == rare
    assert asked(lyrics="keep").left_out == rare
    assert asked(separate="auto", names=True, metadata="cached", lyrics="drop").left_out == {"translate"}


def test_a_film_with_translations_needs_a_language() -> None:
    what = "the workflow translate needs a language"
    assert refused(chosen(workflow="translate")) == (what, "--workflow", "--to en")
