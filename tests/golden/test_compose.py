"""A job's compose file, byte for byte, and what compose would read from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from builder.core.jobs import compose
from builder.errors import ConfigError
from tests.golden.project import FILES, HOSTILE, PROJECTS, ROOT, interpolated, job, project, read


@pytest.mark.parametrize("case", PROJECTS)
def test_the_compose_file_is_as_it_was(case: str) -> None:
    """A change of what a container may do shows here."""
    assert project(case) == (FILES / f"{case}.compose.yaml").read_text()


def test_any_path_comes_out_as_it_went_in() -> None:
    """Quotes, dollars, line ends, templates in a folder's name: YAML and compose give the same path again."""
    mounts = {m["target"]: m for m in yaml.safe_load(project("cpu"))["x-mounts"]}
    assert interpolated(mounts["/models"]["source"]) == HOSTILE


def test_every_service_has_the_same_few_rights() -> None:
    """No network, nothing writable but results and events, no rights, a limit on everything; models of one's own image
    are not mounted."""
    services = yaml.safe_load(project("cpu"))["services"]
    assert list(services) == ["demux", "vad", "asr", "diarize", "align", "subtitles", "mux"]
    for name, service in services.items():
        assert service["network_mode"] == "none"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges"]
        assert service["user"] == "65532:0"
        assert service["image"].startswith("sha256:")
        assert {"pids_limit", "mem_limit", "cpus"} <= set(service)
        assert service["mem_limit"] == service["memswap_limit"] <= 0.9 * 4_000_000_000
        assert service["labels"] == {compose.JOB: "20261123-200312-rm-rf-4f2a", compose.STAGE: name}
        writable = {m["target"] for m in service["volumes"] if not m["read_only"]}
        assert writable == {"/job/work", "/job/output", "/job/events.jsonl"}
        assert ("/models" in {m["target"] for m in service["volumes"]}) == (name in ("asr", "diarize", "align"))
        assert "deploy" not in service
    assert set(services["subtitles"]["depends_on"]) == {"demux", "align", "diarize"}
    assert set(services["diarize"]["depends_on"]) == {"demux", "vad"}, "beside asr, not after it"


def test_a_gpu_is_reserved_for_the_stage_that_uses_one() -> None:
    for case, device in (
        ("gpu", {"driver": "nvidia", "device_ids": ["1"]}),
        ("cdi", {"driver": "cdi", "device_ids": ["nvidia.com/gpu=0"]}),
    ):
        services = yaml.safe_load(project(case))["services"]
        with_gpu = {
            n: s["deploy"]["resources"]["reservations"]["devices"] for n, s in services.items() if "deploy" in s
        }
        assert with_gpu == {"asr": [{**device, "capabilities": ["gpu"]}]}
        assert services["asr"]["user"] == "1000:100"


def test_a_path_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="UTF-8"):
        compose.quoted("/srv/\udcff")


def test_a_stage_without_an_image_is_named() -> None:
    with pytest.raises(ConfigError, match="no image for stage demux"):
        compose.services(job("cpu"), {}, machine=PROJECTS["cpu"], specs={}, sizes={})


def test_memory_grows_with_the_recording_and_ends_at_the_machine() -> None:
    """A limit that a long recording would break is none; one beyond the machine isn't either."""
    made = job("cpu")
    stage = made.stage("asr")

    def limit(machine: int, *seconds: float | None) -> int:
        asked = replace(made, inputs=tuple(replace(made.inputs[0], duration=one) for one in seconds))
        return compose.memory(asked, stage, spec=None, sizes={"base": 150_000_000}, machine=machine)

    assert limit(8_000_000_000, 60) < limit(8_000_000_000, 3600) < limit(8_000_000_000, None)
    assert limit(8_000_000_000, 100_000) == 7_200_000_000
    assert limit(8_000_000_000, 0) == 3 * (512_000_000 + 150_000_000) // 2
    assert limit(8_000_000_000, 3600, 3600) == limit(8_000_000_000, 7200), "the results of all are held at once"


def test_many_windows_at_once_take_memory_on_the_processor() -> None:
    """A limit that ``--batch-size 32`` would break is none; on a GPU they are in its own memory."""
    made = job("cpu")
    stage = made.stage("asr")

    def limit(batch: int, device: str = "cpu") -> int:
        asked = replace(stage, settings={**stage.settings, "batch_size": batch, "device": device})
        return compose.memory(made, asked, spec=None, sizes={"base": 150_000_000}, machine=64_000_000_000)

    assert limit(0) == limit(4) == limit(32, "cuda")
    assert limit(32) - limit(4) == 28 * 45_000_000 * 3 // 2


@pytest.mark.parametrize("stage", ["demux", "vad", "asr", "align", "diarize", "subtitles", "mux"])
def test_three_hours_reserve_no_more_than_thrice_of_a_minute(stage: str) -> None:
    """Stages stream: of a project's own stages in the slim variant none is given the sound of a whole recording."""
    spec = read({}).stages[stage]
    assert spec.memory("slim", [3 * 3600.0]) < 3 * spec.memory("slim", [60.0])
    assert spec.memory("slim", [3600.0] * 3) == spec.memory("slim", [3 * 3600.0])


def test_a_misspelt_variable_is_an_error() -> None:
    """A template that renders a slip as nothing would take a right away from nobody."""
    text = (ROOT / "compose" / compose.TEMPLATE).read_text().replace("{{ rights.pids }}", "{{ rights.pdis }}")
    with pytest.raises(Exception, match="pdis"):
        compose.render(text, job("cpu"), (), machine=PROJECTS["cpu"], models="/m")
