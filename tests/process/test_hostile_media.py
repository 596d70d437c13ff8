"""Hostile media on the real stages: what was shown once, and the first of the attacks that bench/hostile.py counts."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.core.stage_env import stage_environment
from tests.hostile import effect, media, media_made
from tests.shared import ROOT, native_python

LIGHT = 300_000_000
"""Bytes within which a small file is looked at that holds nothing large for its sound."""


def looked_at(name: str, data: bytes, folder: Path) -> dict[str, Any]:
    """A look into a recording: exit code, bytes, seconds, what was said."""
    (folder / name).write_bytes(data)
    return media.worker().ask([["clip", "--probe", str(folder / name)]], folder / "log")[0]


@pytest.mark.parametrize("name", ["list.m3u8", "talk.wav", "list.ffconcat"])
@pytest.mark.parametrize("target", ["/dev/zero", "talk.wav", "pipe:0"])
def test_a_list_of_other_files_is_refused_before_it_is_read(tmp_path: Path, name: str, target: str) -> None:
    """90 bytes took 6 GB in 12 s: FFmpeg reads what a list names while it opens the list."""
    lists = {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
        "wav": f'#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-MAP:URI="{target}"\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n',
        "ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
    }
    did = looked_at(name, lists[name.rpartition(".")[2]].encode(), tmp_path)
    assert (did["code"], did["peak"] < LIGHT, did["seconds"] < 5) == (2, True, True), did
    assert did["said"].startswith("not a media file that can be read (")


def test_a_cover_is_not_decoded(tmp_path: Path) -> None:
    """1 MB of PNG took 1 GB."""
    picture = media_made.png(16_000, 16_000)
    data = media_made.id3(media_made.frame(b"APIC", b"\0image/png\0\3\0" + picture)) + media_made.MP3
    did = looked_at("cover.mp3", data, tmp_path)
    assert (did["code"], did["peak"] < LIGHT, did["seconds"] < 5) == (0, True, True), did


def test_a_cover_too_large_is_left_out_of_the_film(tmp_path: Path) -> None:
    """The sound is muxed all the same."""
    picture = media_made.png(16_000, 16_000)
    source = tmp_path / "cover.mp3"
    data = (
        media_made.id3(media_made.frame(b"APIC", b"\0image/png\0\3\0" + picture))
        + (media.seeds() / "mp3-16.mp3").read_bytes()
    )
    source.write_bytes(data)
    job = media.job_of(tmp_path / "job", source)
    (job / "work/subtitles").mkdir(parents=True)
    (job / "work/subtitles/01.json").write_text(
        '{"language": "en", "cues": [{"start": 0, "end": 1, "text": "Good morning"}]}'
    )
    tries = [[stage, "--job", str(job)] for stage in ("demux", "mux")]
    for did in media.worker().ask(tries, tmp_path / "log"):
        assert (did["code"], did["peak"] < LIGHT, did["seconds"] < 15) == (0, True, True), did
    assert [path.suffix for path in (job / "output").iterdir()] == [".mka"]


@pytest.mark.parametrize("kind", ["fifo", "device", "link to a device", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    """A FIFO that nobody writes, a device without an end."""
    path = tmp_path / "a.wav"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    words = ["clip", "--probe", "/dev/zero" if kind == "device" else str(path)]
    did = media.worker().ask([words], tmp_path / "log")[0]
    assert (did["code"], did["seconds"] < 5) == (2, True), did


@pytest.mark.parametrize("number", [*range(0, 60, 2), 140])
def test_attacks(tmp_path: Path, number: int) -> None:
    assert effect(media.attempt(number), tmp_path / "place") is None


def test_a_look_is_limited_by_what_the_stage_says() -> None:
    """Each number once: a container leaves room for what the stage lets its child take, and for Python with FFmpeg."""
    from builder.core.jobs import compose, sandbox
    from builder.edges.machine import project
    from tests.golden import project as fixed

    names = dict(re.findall(r"^([A-Z]+) = ([\d_.]+)$", (ROOT / "stages/confined.py").read_text(), re.MULTILINE))
    memory, seconds, pace, patience = (float(names[k]) for k in ("MEMORY", "SECONDS", "PACE", "PATIENCE"))
    assert memory <= sandbox.LOOK * 3 / 4
    specs = project.load(ROOT, env={}).stages
    job, machine = fixed.job("cpu"), 64_000_000_000
    for stage in ("demux", "mux"):
        sized = {"spec": specs[stage], "sizes": {}, "machine": machine}
        assert compose.limit(job, job.stage(stage), **sized) >= sandbox.LOOK
        assert compose.memory(job, job.stage(stage), **sized) < sandbox.LOOK, "it counts for what it takes"
    for size in (0, 10_000_000, 100_000_000_000):
        assert sandbox.look_seconds(size) > patience * (seconds + size / pace)


# What libraries read on their own account (row 12 of the attack: another user's FIFO below /tmp hung every native run)

SYSTEM = """
import av, ctypes, pathlib
library, = pathlib.Path(av.__path__[0]).parent.glob("av.libs/libgnutls-*")
gnutls = ctypes.CDLL(str(library))
gnutls.gnutls_get_system_config_file.restype = ctypes.c_char_p
print(gnutls.gnutls_get_system_config_file().decode())
"""


def test_gnutls_reads_no_file_of_others() -> None:
    env = stage_environment(models="/nowhere", scratch="/nowhere", threads=1, inherit={"PATH": os.environ["PATH"]})
    done = subprocess.run([native_python(), "-c", SYSTEM], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "/dev/null"


KNOWN = (
    rb"/tmp/vendor/etc/gnutls/config$",  # see above
    rb"/tmp/vendor --",  # how FFmpeg and libvpx were configured
    rb"/tmp/$",  # of ONNX Runtime, before names of its own; neither an import nor a session opens any
    rb"/tmp/vendor/(lib|share)",  # of ALSA, libvpl, WebP: no demuxer of devices and no decoder of Intel's is opened
    rb"/tmp/alsa-dmix",
    rb"/tmp/_x265_",  # x265's sharing of analyses between encoders, which nobody asks for
    rb"/tmp/\.X11-unix",  # of a grabber of screens, which isn't opened
    rb"/tmp/perf-%d\.map",  # written by a profiler's option
    rb"/tmp/__EnDiAn_TeSt__",  # written by nothing that is called
    rb"/tmp/(\.ses|%sXXXXXX)",  # telemetry, which is off; names that can't be guessed
)
"""What native libraries may look for in folders that everybody writes, with why it isn't reached."""


def places(data: bytes) -> Iterator[bytes]:
    """Paths below folders that everybody writes."""
    for folder in (b"/tmp/", b"/dev/shm/"):
        at = data.find(folder)
        while at >= 0:
            start = at - 4 if data[at - 4 : at] == b"/var" else at
            alone = not re.match(rb"[\w./-]", data[start - 1 : start])
            if alone and (text := re.match(rb"[ -~]{3,200}", data[start : start + 200])):
                yield text[0]
            at = data.find(folder, at + 1)


def test_libraries_look_for_nothing_else_where_everybody_writes() -> None:
    """Paths in the native libraries of the stages' environment: a new one is looked at by a person before it comes in."""
    packages = next((native_python().parent.parent / "lib").glob("python3*/site-packages"))
    found = set()
    for path in packages.rglob("*.so*"):
        for text in places(path.read_bytes()):
            source = re.search(rb"/include/|/src/|\.(c|cc|cpp|h|hpp|rs|pyx|py|y|inc|asm)$", text)
            if not source and not any(re.match(known, text) for known in KNOWN):
                found.add((path.name, text.decode()))
    assert found == set()
