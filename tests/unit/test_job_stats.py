"""``jobs stats``: what counts, how it is spread, and what Prometheus reads of it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from builder.core.jobs.record.stats import JobRuns, prometheus, spread, stats
from builder.core.jobs.timeline import StageRun
from builder.views.past.jobs import STATS


def run(name: str, seconds: float, *, start: float = 0.0, load: float = 0.5, peak: int | None = None) -> StageRun:
    return StageRun(
        name=name, state="done", start=start, seconds=seconds, rtf=seconds / 10, timings={"load": load}, peak_bytes=peak
    )


def failed(name: str, why: str) -> StageRun:
    return StageRun(name=name, state="failed", start=0.0, seconds=1.0, message=why)


JOBS = [
    JobRuns(state="done", sound=10, stages=(run("demux", 1), run("asr", 4, start=1, peak=500))),
    JobRuns(state="done", sound=10, stages=(run("demux", 1), run("asr", 8, start=1, load=1.5, peak=700))),
    JobRuns(state="failed", sound=10, stages=(run("demux", 2), failed("asr", "no\n memory"))),
    JobRuns(state="failed", sound=10, stages=(run("demux", 2), failed("asr", "no memory"))),
    JobRuns(state="prepared", sound=0, stages=(StageRun(name="demux", state="open"),)),
    JobRuns(state="broken", sound=0, stages=()),
]
FOUND = stats(JOBS, ["demux", "vad", "asr"])


def test_what_counts() -> None:
    """Sound of jobs that are done, runs that ended; a stage that never ran isn't listed."""
    assert FOUND.states == {"broken": 1, "done": 2, "failed": 2, "prepared": 1}
    assert FOUND.sound == 20
    assert FOUND.rtf is not None
    assert (FOUND.rtf.count, FOUND.rtf.quantiles[0.5], FOUND.rtf.quantiles[0.9]) == (2, 0.5, 0.9)
    demux, asr = FOUND.stages
    assert (demux.name, demux.done, demux.failed) == ("demux", 4, 0)
    assert (asr.name, asr.done, asr.failed, asr.peak_bytes) == ("asr", 2, 2, 700)
    assert asr.load is not None
    assert asr.load.total == 2.0
    assert FOUND.reasons == (("asr", "no memory", 2),)


@given(st.lists(st.floats(0, 1e9), max_size=50))
def test_quantiles_are_values_that_were_seen(values: list[float]) -> None:
    found = spread(values)
    if found is None:
        assert not values
        return
    for quantile, value in found.quantiles.items():
        assert value in values
        assert sum(v <= value for v in values) >= quantile * len(values) - 1e-9
        assert sum(v < value for v in values) <= quantile * len(values)


SAMPLE = re.compile(r'(whisperbake_[a-z_]+)(\{[a-z]+="[^"\\\n]*"(,[a-z]+="[^"\\\n]*")*\})? [0-9.e+-]+')


def test_what_prometheus_reads() -> None:
    """Each name is declared once, before its samples, of which none is said twice."""
    lines = prometheus(FOUND).splitlines()
    declared: dict[str, str] = {}
    seen = set()
    for line in lines:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in declared
            declared[name] = kind
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert re.sub("_(sum|count)$", "", match[1]) in declared
            assert line.split()[0] not in seen
            seen.add(line.split()[0])
    assert 'whisperbake_jobs{state="failed"} 2' in lines
    assert 'whisperbake_stage_load_seconds{stage="asr",quantile="0.5"} 0.5' in lines
    assert 'whisperbake_stage_load_seconds_sum{stage="asr"} 2' in lines
    assert "whisperbake_job_realtime_factor_count 2" in lines


def test_for_a_person() -> None:
    lines = STATS.text(FOUND).splitlines()
    assert lines[0] == "6 jobs: 1 broken, 2 done, 2 failed, 1 prepared"
    assert "2 × asr: no memory" in lines
    assert STATS.text(stats([], [])) == "no jobs here"


def test_what_a_stage_said_steers_no_terminal() -> None:
    found = stats([JobRuns(state="failed", sound=0, stages=(failed("asr", "\x1b[2J" + "x" * 9999),))], [])
    assert "\x1b" not in STATS.text(found)
    assert len(STATS.text(found)) < 1000
