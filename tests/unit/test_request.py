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
from builder.errors import UsageError

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
    with pytest.raises(UsageError) as caught:
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
    with pytest.raises(UsageError) as caught:
        resolve(JobOptions(), config=CONFIG, hardware=LAPTOP, advice=recommend(WORKSTATION), models=models())
    assert caught.value.what == gone[0]


def test_a_machine_s_own_settings_are_the_default() -> None:
    """Device, compute type, batches and threads suit the machine."""
    assert asked().settings["asr"] == {
        "device": "cpu",
        "threads": 4,
        "language": None,
        "compute_type": "int8",
        "batch_size": 0,
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
    assert {settings[stage]["threads"] for stage in ("asr", "align", "diarize")} == {3}
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
    assert asked().settings["diarize"]["speakers"] is None
    assert not asked(diarization=False).diarization


@pytest.mark.parametrize(
    ("typed", "track"), [(None, None), ("auto", None), ("2", 2), ("all", "all"), ("French", "fr"), ("en-US", "en")]
)
def test_a_track_is_a_number_a_language_or_all(typed: str | None, track: object) -> None:
    """As the demux stage takes it."""
    assert asked(track=typed).settings["demux"] == {"track": track, "channels": "mix"}


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
