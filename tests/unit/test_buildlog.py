"""BuildKit's plain progress, as buildx 0.13 prints it: who is at which step, what was cached, what failed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.core.images.build_log import BuildLog

LOG = """\
#0 building with "default" instance using docker driver

#1 [internal] load local bake definitions
#5 [asr internal] load build definition from Dockerfile
#9 [asr root 1/1] ADD rootfs.tar /
#9 CACHED

#12 [asr libraries-asr 2/2] RUN --mount=type=secret,id=ca --mount=type=cache,target=/cache     ["python3", "/tools/steps.py"]
#12 2.349 installing
#12 2.400 size av 18.1.0 80496341

#13 [vad code-vad 1/3] COPY stages/contract.py /src/contract.py
#13 DONE 0.1s

#12 DONE 3.0s

#16 exporting to image
#16 naming to docker.io/whisperbake/asr:slim-cpu done
#16 unpacking to docker.io/whisperbake/asr:slim-cpu 0.8s done
#20 [vad libraries-vad 2/2] RUN ["python3"]
#20 10.58 Traceback (most recent call last):
#20 10.58 OSError: boom
#20 ERROR: process "python3" did not complete successfully: exit code: 1
"""


def read(text: str) -> tuple[BuildLog, list[tuple[str, str]]]:
    log = BuildLog(tags={"whisperbake/asr:slim-cpu": "asr", "whisperbake/vad:slim-cpu": "vad"})
    return log, [now for line in text.splitlines() if (now := log.feed(line))]


def test_a_line_an_image_says_what_runs_now() -> None:
    """Cached steps are not news; mounts are no part of what a person wants to read."""
    _, said = read(LOG)
    assert said == [
        ("asr", "libraries-asr 2/2: RUN python3 /tools/steps.py"),
        ("vad", "code-vad 1/3: COPY stages/contract.py /src/contract.py"),
        ("asr", ""),
        ("vad", "libraries-vad 2/2: RUN python3"),
    ]


def test_steps_are_counted() -> None:
    """For a bar: those that ended of those that were heard of; a failed one is not done."""
    log, _ = read(LOG)
    assert log.progress() == (1 + 2 + 1, 1 + 2 + 3 + 2)


def test_what_was_built_and_what_was_there() -> None:
    log, _ = read(LOG)
    assert log.built(["libraries-asr"])
    assert not log.built(["root"])
    assert log.sizes == {"av==18.1.0": 80496341}


def test_a_failure_has_its_last_lines() -> None:
    log, _ = read(LOG)
    assert log.failed is not None
    assert (log.failed.image, log.failed.stage) == ("vad", "libraries-vad")
    assert log.failed.lines[-1] == "OSError: boom"


@given(st.lists(st.sampled_from(LOG.splitlines()) | st.text(max_size=40), max_size=30))
def test_any_order_of_lines_is_read(lines: list[str]) -> None:
    """BuildKit interleaves as it likes, and other versions print other lines."""
    log = BuildLog(tags={})
    for line in lines:
        log.feed(line)
