"""A recording becomes subtitles with speakers; bad input becomes a clear error; a killed job goes on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from metrics import diarization_error, read_rttm, word_errors

from tests.e2e.conftest import ROOT, Bake, write_wav
from tests.shared import SAME, native_python
from tests.typing_pages import cut_recordings

EXAMPLE = ROOT / "examples/dialogue.mp4"
TINY = ("--preset", "tiny-en")
SHORT = (*TINY, "--end", "6")
"""For what is not about what is heard."""
AS_ROOT = os.geteuid() == 0


REMUX = """
import av, sys
with av.open(sys.argv[1]) as inside, av.open(sys.argv[2], "w") as outside:
    twins = {s.index: outside.add_stream_from_template(s) for s in inside.streams if s.type in ("video", "audio")}
    for packet in inside.demux():
        if packet.size and packet.stream.index in twins:
            packet.stream = twins[packet.stream.index]
            outside.mux(packet)
"""


def remuxed(target: Path) -> Path:
    """The example's packets in another container. In the stages' python: the tests' own has no PyAV."""
    subprocess.run([native_python(), "-c", REMUX, EXAMPLE, target], check=True)
    return target


def output(bake: Bake, *arguments: str | Path) -> Path:
    ran = bake("run", *arguments, "--json")
    assert ran.code == 0, ran.err
    return Path(ran.data["output"])


def digests(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_the_example_becomes_subtitles_with_speakers(bake: Bake) -> None:
    """The default preset, from the video to every format; far below the promised error rates' double."""
    ran = bake("run", EXAMPLE)
    assert ran.code == 0, ran.err
    files = [Path(line) for line in ran.out.splitlines()]
    assert {p.suffix for p in files} == {".ass", ".json", ".mp4", ".rttm", ".srt", ".txt", ".vtt"}
    by = {p.suffix: p for p in files}
    truth = re.sub(r"^Speaker \d: ", "", (ROOT / "examples/dialogue.txt").read_text(), flags=re.M)
    heard = re.sub(r"^Speaker \d+: ", "", by[".txt"].read_text(), flags=re.M)
    errors, words = word_errors(truth, heard)
    assert errors / words <= 0.15
    assert diarization_error(read_rttm(ROOT / "examples/dialogue.rttm"), read_rttm(by[".rttm"])) <= 0.15
    assert "Speaker 2: " in by[".srt"].read_text()
    assert "<v Speaker 2>" in by[".vtt"].read_text()


def test_a_second_job_needs_no_network_and_gives_the_same_bytes(bake: Bake, transcribed: Path) -> None:
    """In a network namespace of its own with nothing but loopback; and with --quiet nothing but the results."""
    prefix = ("unshare", "--net") if AS_ROOT else ("unshare", "--net", "--map-root-user")
    ran = bake("--quiet", "run", EXAMPLE, *TINY, *SAME, "--json", prefix=prefix)
    assert ran.code == 0, ran.err
    assert ran.err == ""
    assert digests(Path(ran.data["output"])) == digests(transcribed / "output")


def test_sound_alone_is_transcribed_without_mux(bake: Bake, tmp_path: Path) -> None:
    """And silence is an empty but valid result that says so."""
    silence = write_wav(tmp_path / "silence.wav", 5)
    ran = bake("run", silence, *TINY, "--json")
    assert ran.code == 0, ran.err
    assert any("no speech found" in note for note in ran.data["notes"])
    folder = Path(ran.data["output"])
    assert not list(folder.glob("*.mkv"))
    assert json.loads((folder / "silence.json").read_text())["segments"] == []
    assert (folder / "silence.vtt").read_text().startswith("WEBVTT")
    assert (folder / "silence.srt").read_text() == ""


def test_a_recording_changed_in_place_is_not_heard_under_its_old_sha256(bake: Bake, tmp_path: Path) -> None:
    """A job has a hard link of it. Its results are old then, too; the same command makes a job of what is there now."""
    source = write_wav(tmp_path / "talk.wav", 2)
    first = bake("run", source, *TINY, "--until", "demux", "--json")
    assert first.code == 0, first.err
    before = source.stat()
    with source.open("r+b") as file:
        file.seek(1000)
        file.write(b"other")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = bake("run", first.data["job"], "--until", "demux")
    assert again.code == 2
    assert "talk.wav: the recording was changed after this job was made" in again.err
    assert "run FILE makes a new job of it" in again.err
    new = bake("run", source, *TINY, "--until", "demux", "--json")
    assert new.code == 0, new.err
    assert new.data["job"] != first.data["job"]


def test_a_copy_of_the_old_recording_is_a_new_job(bake: Bake, tmp_path: Path) -> None:
    """And not the unfinished one of the same sha256, whose recording was changed."""
    source, copy = write_wav(tmp_path / "talk.wav", 2), tmp_path / "copy/talk.wav"
    copy.parent.mkdir()
    copy.write_bytes(source.read_bytes())
    old = bake("run", source, *TINY, "--until", "demux", "--json").data["job"]
    source.write_bytes(b"RIFF")
    new = bake("run", copy, *TINY, "--until", "demux", "--json")
    assert new.code == 0, new.err
    assert new.data["job"] != old


@pytest.mark.parametrize(
    "name",
    [
        "two words.mp4",
        'it\'s "quoted".mp4',
        "line\nbreak.mp4",
        "-leading.mp4",
        "Übergröße 日本語.mp4",
        "no suffix",
        "a;b&c|d$(e).mp4",
        "concat:x.mp4",
        "%s{}.mp4",
    ],
)
def test_any_name_works(bake: Bake, tmp_path: Path, name: str) -> None:
    """Spaces, quotes, line breaks, dashes, other scripts, what a shell or FFmpeg would take for a command."""
    shutil.copy(EXAMPLE, tmp_path / name)
    ran = bake("prepare", "--json", *TINY, "--", name)
    assert ran.code == 0, ran.err
    job = Path(ran.data["folder"])
    assert (job / "input").is_dir()
    entry = next((job / "input").iterdir())
    assert entry.stat().st_ino == (tmp_path / name).stat().st_ino  # a hard link takes no space
    assert not entry.is_symlink()


def test_an_odd_name_goes_all_the_way(bake: Bake, tmp_path: Path) -> None:
    """The files in output are called like the recording; which may disappear after prepare, because the job has its own."""
    name = "-it's\n日本 $(x).mp4"
    shutil.copy(EXAMPLE, tmp_path / name)
    job = bake("prepare", "--json", *SHORT, "--", name).data["job"]
    (tmp_path / name).unlink()
    ran = bake("run", job, "--json")
    assert ran.code == 0, ran.err
    assert {Path(f).stem for f in ran.data["files"]} == {"it's_日本 $(x)"}


def test_bad_recordings_are_named_with_the_reason(bake: Bake, tmp_path: Path) -> None:
    """Exit code 2, one line, and no job is left behind."""
    (tmp_path / "text.mp4").write_text("this is no video, however it is called\n" * 50)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    subprocess.run([native_python(), "-c", SILENT_VIDEO, str(tmp_path / "mute.mp4")], check=True, cwd=tmp_path)
    for name, words in (
        ("text.mp4", "not a media file"),
        ("empty.wav", "zero bytes"),
        ("folder", "folder"),
        ("mute.mp4", "no audio stream"),
        ("gone.mp4", "no such file"),
    ):
        ran = bake("run", tmp_path / name, *TINY)
        assert ran.code == 2, (name, ran.err)
        assert words in ran.said, (name, ran.said)
        assert name in ran.said
    assert not list((tmp_path / "jobs").glob("*"))


SILENT_VIDEO = """
import sys, av, numpy
with av.open(sys.argv[1], "w") as out:
    stream = out.add_stream("libx264", rate=10); stream.width = stream.height = 64; stream.pix_fmt = "yuv420p"
    for k in range(10):
        out.mux(stream.encode(av.VideoFrame.from_ndarray(numpy.zeros((64, 64, 3), numpy.uint8), format="rgb24")))
    out.mux(stream.encode(None))
"""


def test_a_truncated_file_gives_what_is_there_or_an_error(bake: Bake, tmp_path: Path) -> None:
    """Never a crash, never a result that doesn't say it is short."""
    data = EXAMPLE.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    ran = bake("run", tmp_path / "cut.mp4", *TINY, "--json")
    assert (ran.code == 0 and any("cut short" in n or "ends early" in n for n in ran.data["notes"])) or ran.code == 2
    (tmp_path / "head.mp4").write_bytes(data[:300])
    assert bake("run", tmp_path / "head.mp4", *TINY).code == 2


def test_an_unknown_language_and_a_wrong_one(bake: Bake) -> None:
    """Before anything is decoded."""
    assert bake("run", EXAMPLE, "--language", "klingon").code == 2
    ran = bake("run", EXAMPLE, *TINY, "--language", "de")
    assert ran.code == 2
    assert "does not know" in ran.said


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_the_start_asked_for_is_the_start_heard(bake: Bake, tmp_path: Path, suffix: str) -> None:
    """The picture's key frames are at 0 and 12.9 s: the clip was moved to 0:00, and all that was said before was in it."""
    source = remuxed(tmp_path / f"dialogue{suffix}")
    ran = bake("run", source, *TINY, "--no-diarization", "--start", "0:10", "--end", "0:13", "--json")
    assert ran.code == 0, ran.err
    folder = Path(ran.data["output"])
    found = json.loads((folder / "dialogue.json").read_text())
    assert "".join(s["text"] for s in found["segments"]).strip() == "When did you first come to the city?"
    asked = yaml.safe_load((folder.parent / "job.yaml").read_text())["inputs"][0]["clip"]
    assert asked["start"] == 10.0
    assert 13.0 <= asked["end"] < 13.1
    assert asked["lead"] == pytest.approx(10.0, abs=0.1)
    assert any("film begins 10.0 s before the start, at a key frame" in note for note in ran.data["notes"])
    # The film with its subtitles: the words are said 0.1 s after the start, and shown then.
    words = found["segments"][0]["words"]
    assert words[0]["start"] == pytest.approx(asked["lead"] + 0.1, abs=0.15)


def test_a_clip_between_key_frames_has_the_whole_picture(bake: Bake) -> None:
    """--start and --end of a film: what comes out is as long as what was asked for and the lead."""
    ran = bake("run", EXAMPLE, *TINY, "--start", "0:14", "--end", "18", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(next(Path(ran.data["output"]).glob("*.json")).read_text())
    assert found["duration"] == pytest.approx(18 - 12.9, abs=0.1)
    assert min(s["start"] for s in found["segments"]) >= 14 - 12.9 - 0.1


def test_several_recordings_in_one_job_load_each_model_once(bake: Bake, tmp_path: Path) -> None:
    """Two results, one run of each stage; equal names don't meet."""
    other = tmp_path / "sub" / "dialogue.mp4"
    other.parent.mkdir()
    shutil.copy(EXAMPLE, other)
    ran = bake("run", EXAMPLE, other, *SHORT, "--json")
    assert ran.code == 0, ran.err
    stems = {Path(f).stem for f in ran.data["files"]}
    assert stems == {"dialogue", "dialogue-2"}
    folder = Path(ran.data["output"])
    assert (folder / "dialogue.srt").read_bytes() == (folder / "dialogue-2.srt").read_bytes()
    assert len(ran.data["stages"]) == 7


def test_the_video_holds_the_subtitles_and_the_untouched_streams(bake: Bake, transcribed: Path, tmp_path: Path) -> None:
    """MP4 stays MP4, everything else becomes MKV; packets of picture and sound are byte for byte the same."""
    shutil.copy(EXAMPLE, tmp_path / "other.mkv")  # any container, whatever its name says
    films = {EXAMPLE: transcribed / "output/dialogue.mp4"}
    films[tmp_path / "other.mkv"] = output(bake, tmp_path / "other.mkv", *TINY) / "other.mkv"
    for source, made in films.items():
        done = subprocess.run(
            [native_python(), "-c", STREAMS, source, made], capture_output=True, text=True, check=True
        )
        before, after = json.loads(done.stdout)
        assert before == after[: len(before)]
        assert after[-1][0] == "subtitle"


STREAMS = """
import av, hashlib, json, sys
def look(path):
    with av.open(path) as media:
        found = [[s.type, hashlib.sha256()] for s in media.streams]
        for packet in media.demux():
            if packet.size:
                found[packet.stream.index][1].update(bytes(packet))
        return [[kind, digest.hexdigest()] for kind, digest in found]
print(json.dumps([look(path) for path in sys.argv[1:]]))
"""


def await_stage(process: subprocess.Popen[str], stage: str) -> None:
    """Wait until a command says that it begins a stage."""
    assert process.stderr is not None
    said = iter(process.stderr.readline, "")
    assert any(line.startswith(f"{stage}:") for line in said), f"it ended before {stage}"


@pytest.mark.parametrize("stage", ["demux", "asr", "subtitles"])
def test_a_job_killed_at_any_point_ends_with_the_same_bytes(
    bake: Bake, transcribed: Path, tmp_path: Path, stage: str
) -> None:
    """kill -9 of the whole command; `run` of the same recording resumes with the first unfinished stage."""
    env = {**os.environ, "BAKE_JOBS": str(tmp_path / "killed")}
    command = [sys.executable, str(ROOT / "build.py"), "run", str(EXAMPLE), *TINY, *SAME]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    await_stage(process, stage)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {p.parent.name for p in (tmp_path / "killed").glob("[0-9]*/job.yaml")}
    ran = bake("run", EXAMPLE, *TINY, *SAME, "--json", env={"BAKE_JOBS": str(tmp_path / "killed")})
    assert ran.code == 0, ran.err
    assert digests(Path(ran.data["output"])) == digests(transcribed / "output")
    assert before == {ran.data["job"]}  # resumed, not begun again
    assert not list((tmp_path / "killed").rglob("*.tmp*"))


def test_ctrl_c_leaves_a_resumable_job(bake: Bake, tmp_path: Path) -> None:
    """Exit code 130, and the line to type."""
    env = {**os.environ, "BAKE_JOBS": str(tmp_path / "jobs")}
    command = [sys.executable, str(ROOT / "build.py"), "run", str(EXAMPLE), *TINY]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    await_stage(process, "asr")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=12)
    assert process.returncode == 130, err
    assert "resumes where it stopped" in err
    assert bake("jobs", "list", "--json").data[0]["state"] == "interrupted"


def test_a_tampered_model_is_quarantined_and_never_loaded(bake: Bake, tmp_path: Path) -> None:
    """One byte of the weights: exit code 5, the file is named and moved; fetching mends it."""
    home = tmp_path / "home"
    shutil.copytree(ROOT / ".bake/models", home / "models", symlinks=True)
    (home / "native").symlink_to(ROOT / ".bake/native")
    blob = (home / "models/ctranslate2/tiny.en-int8/model.bin").resolve()
    with blob.open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    ran = bake("--home", home, "run", EXAMPLE, *SHORT)
    assert ran.code == 5, ran.err
    assert "model.bin" in ran.said
    assert ".quarantine" in ran.said
    assert bake("--home", home, "run", EXAMPLE, *SHORT).code == 0


@pytest.mark.skipif(not AS_ROOT, reason="mounts need root; CI runs as root")
def test_a_full_disk_is_said_and_nothing_is_lost(bake: Bake, tmp_path: Path) -> None:
    """A real small file system, not a permission trick: exit code 3, and no job half made."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], check=True)
    try:
        ran = bake("run", EXAMPLE, *TINY, env={"BAKE_JOBS": str(small / "jobs")})
        assert ran.code == 3, ran.err
        assert "disk" in ran.said
        assert not list((small / "jobs").glob("[0-9]*"))
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


@pytest.mark.skipif(not AS_ROOT, reason="mounts need root; CI runs as root")
def test_a_disk_that_fills_in_a_stage_is_said_and_the_job_goes_on_later(bake: Bake, tmp_path: Path) -> None:
    """The preflight sees room that somebody else then takes."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(small)], check=True)
    try:
        env = {"BAKE_JOBS": str(small / "jobs")}
        command = [sys.executable, str(ROOT / "build.py"), "run", str(EXAMPLE), *SHORT]
        process = subprocess.Popen(command, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True)
        await_stage(process, "vad")
        with contextlib.suppress(OSError), (small / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(b"x" * 4096)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (3, 7), err
        assert "disk is full" in err
        assert "Traceback" not in err.replace("  | Traceback", "")
        (small / "ballast").unlink()
        ran = bake("run", EXAMPLE, *SHORT, "--json", env=env)
        assert ran.code == 0, ran.err
        assert ran.data["stages"][0]["kept"]
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


@pytest.mark.skipif(not AS_ROOT, reason="mounts need root; CI runs as root")
def test_a_read_only_jobs_folder_is_said(bake: Bake, tmp_path: Path) -> None:
    """A real read-only mount."""
    place = tmp_path / "ro"
    place.mkdir()
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        ran = bake("run", EXAMPLE, *TINY, env={"BAKE_JOBS": str(place / "jobs")})
        assert ran.code == 3, ran.err
        assert "can't be written" in ran.said
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_every_report_has_json_and_errors_too(bake: Bake) -> None:
    """For scripts: standard output is one JSON document."""
    for command in (["models", "list"], ["jobs", "list"], ["hardware"], ["doctor"], ["models", "verify"]):
        assert bake(*command, "--json").data is not None
    ran = bake("run", "gone.mp4", "--json")
    assert ran.data["error"]["exit_code"] == ran.code == 2


def test_doctor_has_a_row_for_each_part_of_an_engine(bake: Bake) -> None:
    """Also where there is no engine: a row that is missing looks like one that is fine."""
    rows = {row["name"]: row for row in bake("doctor", "--json", env={"DOCKER_HOST": "unix:///nowhere"}).data["checks"]}
    engine = ("compose", "buildx", "base of images", "GPU in containers", "BuildKit's cache")
    assert {"token", "container engine", *engine} <= rows.keys()
    for name in engine:
        assert (rows[name]["ok"], rows[name]["note"]) == (False, "not looked at: no container engine answers")


@pytest.fixture
def german(tmp_path: Path) -> Path:
    """German by a synthetic voice, with a name that the small model spells as a noun."""
    said = "Guten Morgen. Mein Name ist Anna. Ich wohne in einem kleinen Haus am Meer. Heute scheint die Sonne."
    path = tmp_path / "german.wav"
    subprocess.run(["espeak-ng", "-v", "de", "-s", "140", "-w", str(path), said], check=True)
    return path


def test_a_translation_is_english_and_says_what_was_spoken(bake: Bake, german: Path) -> None:
    """Its words keep the model's own times: pocketsphinx would look for English in German sound."""
    ran = bake("run", german, "--language", "de", "--task", "translate", "--no-diarization", "--json")
    assert ran.code == 0, ran.err
    result = json.loads((Path(ran.data["output"]) / "german.json").read_text())
    assert (result["language"], result["spoken_language"]) == ("en", "de")
    text = " ".join(segment["text"] for segment in result["segments"]).lower()
    assert {"good morning", "name", "house"} == {word for word in ("good morning", "name", "house") if word in text}
    assert {word["source"] for segment in result["segments"] for word in segment["words"]} == {"whisper"}
    assert any("a translation is not what is heard" in note for note in ran.data["notes"])


TRACKS = """
import av, json, sys
with av.open(sys.argv[1]) as media:
    print(json.dumps([[s.metadata.get("language"), s.disposition.value & 1] for s in media.streams.subtitles]))
"""


def test_a_film_gets_what_is_said_and_its_translation(bake: Bake, german: Path, tmp_path: Path) -> None:
    """By Whisper into English: files and a track for each language, the same spans, and both on the page."""
    film = tmp_path / "film.mkv"
    picture = ["-f", "lavfi", "-i", "color=black:s=64x48:r=5", "-i", german, "-shortest"]
    subprocess.run(["ffmpeg", "-v", "error", *picture, "-c:v", "mpeg4", film], check=True)
    ran = bake("run", film, "-s", "de", "-t", "en", "--no-diarization", "--json")
    assert ran.code == 0, ran.err
    folder = Path(ran.data["output"])
    assert {"film.de.srt", "film.en.srt", "film.de.json", "film.en.json", "film.mkv"} <= {
        p.name for p in folder.iterdir()
    }
    spoken, told = ((folder / f"film.{code}.srt").read_text() for code in ("de", "en"))
    assert "Morgen" in spoken
    assert "Good morning" in told
    assert "Morgen" not in told
    whole = json.loads((folder / "film.de.json").read_text())
    (translation,) = whole["translations"]
    assert (translation["language"], translation["backend"]) == ("en", "whisper")
    edges = {edge for segment in whole["segments"] for edge in (segment["start"], segment["end"])}
    assert {s["start"] for s in translation["segments"]} <= edges
    done = subprocess.run(
        [native_python(), "-c", TRACKS, folder / "film.mkv"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [["deu", 0], ["eng", 1]]
    assert bake("jobs", "report", ran.data["job"], "--out", tmp_path / "page.html").code == 0
    assert "Good morning" in (tmp_path / "page.html").read_text()


def test_apertium_translates_the_text_and_keeps_its_lines(bake: Bake) -> None:
    """Out of English, which Whisper doesn't; who speaks stays."""
    ran = bake("run", EXAMPLE, *SHORT, "-s", "en", "-t", "es", "--json")
    assert ran.code == 0, ran.err
    folder = Path(ran.data["output"])
    whole = json.loads((folder / "dialogue.en.json").read_text())
    (translation,) = whole["translations"]
    assert (translation["language"], translation["backend"]) == ("es", "apertium")
    assert [s["speaker"] for s in translation["segments"]] == [s["speaker"] for s in whole["segments"]]
    assert "puerto" in (folder / "dialogue.es.txt").read_text()


def test_hotwords_and_settings_reach_the_stages(bake: Bake, german: Path) -> None:
    """A name is spelled as it was said to be, and lines are as short as they were said to be."""
    narrow = ("--set", "subtitles.line_chars=20", "--set", "subtitles.lines=1")
    common = ("--language", "de", "--no-diarization")
    folder = output(bake, german, *common, *narrow, "--hotwords", "Anna")
    assert "Anna" in (folder / "german.txt").read_text()
    blocks = (folder / "german.srt").read_text().strip().split("\n\n")
    assert all(len(block.split("\n")) == 3 and len(block.split("\n")[2]) <= 20 for block in blocks)
    plain = output(bake, german, *common)
    assert "Anna" not in (plain / "german.txt").read_text()


def test_a_folder_s_recordings_get_their_results_beside_them(
    bake: Bake, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A job for each; what is no recording is counted; what is there is named before any work, and kept."""
    folder = tmp_path / "my talks"
    folder.mkdir()
    shutil.copy(cut_recordings(tmp_path_factory) / "talk.mp4", folder / "a talk.mp4")
    write_wav(folder / "silence.wav", 2)
    (folder / "odd").write_text("not a recording")
    (folder / "notes.txt").write_text("mine")
    before = (folder / "a talk.mp4").read_bytes()
    common = ("run", folder, *TINY, "--no-diarization", "--formats", "srt", "--beside")
    ran = bake(*common, "--json")
    assert ran.code == 0, ran.err
    assert sorted(ran.data["skipped"]) == ["notes.txt", "odd"]
    assert [[Path(copy).name for copy in job["copies"]] for job in ran.data["jobs"]] == [
        ["a talk.subtitled.mp4", "a talk.srt"],
        ["silence.srt"],
    ]
    assert (folder / "a talk.mp4").read_bytes() == before
    assert "Good morning" in (folder / "a talk.srt").read_text()
    again = bake(*common, "--json")
    assert again.code == 2
    assert "a talk.srt" in again.data["error"]["what"]
    assert len(list((tmp_path / "jobs").iterdir())) == 2
    one = bake("run", ran.data["jobs"][1]["job"], "--output", tmp_path / "out", "--name", "{stem}.{preset}.{ext}")
    assert one.code == 0, one.err
    assert one.out.strip() == str(tmp_path / "out/silence.tiny-en.srt")


def test_standard_input_is_a_recording(bake: Bake, tmp_path: Path) -> None:
    """Under the name that it is given; nothing of it stays but the job."""
    sound = write_wav(tmp_path / "x.wav", 1)
    words = (sys.executable, str(ROOT / "build.py"), "run", "-", "--stdin-name", "piped.wav", *TINY, "--formats", "txt")
    env = {**os.environ, "BAKE_JOBS": str(tmp_path / "jobs")}
    with sound.open("rb") as data:
        done = subprocess.run(
            [*words, "--output", str(tmp_path / "out")],
            stdin=data,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "out/piped.txt")
    assert [path.name.split("-")[2] for path in (tmp_path / "jobs").iterdir()] == ["piped"]
