"""The receiver's folder without an engine: the native set, the log of what was loaded when, bundles that are older."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builder.core.bundle import manual
from builder.core.bundle import plan as core
from builder.edges.bundle import folder as edge
from builder.edges.bundle import origin
from builder.edges.bundle.part_writer import PartSource
from builder.receiver import display, record
from builder.receiver.jobs import run as running
from builder.receiver.parts import Bundle
from tests import bundles

MONDAY, FRIDAY = "2026-11-23T08:00:00Z", "2026-11-27T08:00:00Z"
NATIVE = {
    "native/project/build.py": b"print(1)\n",
    "native/wheels/a-1-py3-none-any.whl": b"wheel",
    "papers/bundle.spdx.json": b"{}\n",
}


def make(folder: Path, created: str | None = FRIDAY, **more: Any) -> Path:
    """A bundle with a native set, of a day."""
    made = bundles.Set()
    weights = made.layer({"models/weights.bin": b"weights"}, model="tiny")
    made.image("asr", [made.layer({"opt/asr.py": b"print(1)"}), weights])
    made.blobs |= {core.digest(data): data for data in NATIVE.values()}
    extras = {path: (len(data), core.digest(data).removeprefix("sha256:")) for path, data in NATIVE.items()}
    plan = bundles.planned(made, extras=extras, made={"commit": "0" * 40, **more} if created else None)
    plan = core.dated(plan, created) if created else plan
    edge.create(folder, plan, PartSource(open=made.open), texts={"load.py": edge.loader()}, on_progress=lambda _: None)
    return folder


def load(bundle: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run its loader where no engine is, without a terminal."""
    return subprocess.run(
        [sys.executable, "-I", str(bundle / "load.py"), "--allow-unsigned", *map(str, words)],
        env={"PATH": "/usr/bin:/bin", "DOCKER_HOST": "unix:///nowhere.sock"},
        cwd=bundle.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def events(target: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (target / "loaded.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("words", [("--native",), ()])
def test_a_native_set_needs_no_engine(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Asked for, or because none answers, which is said; and what to type then."""
    done = load(make(tmp_path / "bundle", python="3.11"), *words)
    assert done.returncode == 0, done.stderr
    target = tmp_path / "whisperbake"
    assert (target / "native/project/build.py").read_bytes() == NATIVE["native/project/build.py"]
    assert (target / "native/project/.bake/models/weights.bin").is_file(), (
        "weights lie where the project looks for them"
    )
    assert f"native: cd {target}/native/project && PIP_NO_INDEX=1" in done.stderr
    assert "python3.11 build.py run" in done.stderr
    assert ("no image is loaded" in done.stderr) is not words
    assert events(target) == ["unpacked"]
    ran = load(tmp_path / "bundle", "--run", tmp_path / "bundle/load.py")
    assert (ran.returncode, "nothing was loaded" in ran.stderr) == (3, True)


def test_papers_of_a_bundle_are_unpacked(tmp_path: Path) -> None:
    """Beside licences; the receiver's inventory has them, so that the same aren't sent again."""
    done = load(make(tmp_path / "bundle", python="3.11"), "--native")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "whisperbake/papers/bundle.spdx.json").read_bytes() == NATIVE["papers/bundle.spdx.json"]
    inventory = json.loads((tmp_path / "whisperbake/inventory.json").read_text())
    assert "papers/bundle.spdx.json" in {file["path"] for file in inventory["files"]}


def test_without_a_native_set_an_engine_is_needed(tmp_path: Path) -> None:
    bundles.three(weights=2000).write(tmp_path / "bundle")
    assert load(tmp_path / "bundle").returncode == 3
    asked = load(tmp_path / "bundle", "--native")
    assert (asked.returncode, "--with-native" in asked.stderr) == (2, True)


@pytest.mark.parametrize(("second", "is_older"), [(MONDAY, True), (None, True), (FRIDAY, False)])
def test_an_older_bundle_is_refused_unless_that_is_meant(tmp_path: Path, second: str | None, is_older: bool) -> None:
    """Nobody is there to be asked: exit 2, nothing of it is unpacked, and the log says that it was tried."""
    assert load(make(tmp_path / "first")).returncode == 0
    other, target = make(tmp_path / "second", second, commit="1" * 40), tmp_path / "whisperbake"
    before = (target / "inventory.json").read_bytes()
    done = load(other)
    assert done.returncode == (2 if is_older else 0), done.stderr
    assert events(target) == ["unpacked", "refused" if is_older else "unpacked"]
    if is_older:
        assert FRIDAY in done.stderr
        assert "--allow-older" in done.stderr
        assert (target / "inventory.json").read_bytes() == before
        assert load(other, "--allow-older").returncode == 0
        assert load(tmp_path / "first").returncode == 0, "the newer one goes in again"
    again = load(tmp_path / "first", "--log")
    assert again.returncode == 0
    assert len(again.stdout.splitlines()) == len(events(target))


def test_the_log_is_bounded_and_survives_a_cut_line(tmp_path: Path) -> None:
    bundle = Bundle(make(tmp_path / "bundle"))
    (tmp_path / "loaded.jsonl").write_text("{}\n" * 400_000 + '{"at": "20')
    record.note(tmp_path, bundle, "loaded", images=9)
    record.note(tmp_path, bundle, "refused")
    lines = (tmp_path / "loaded.jsonl").read_text().splitlines()
    assert len(lines) == record.KEPT_LINES + 1
    shown = record.log_text(tmp_path).splitlines()
    assert [line.split()[1] for line in shown] == ["loaded", "refused"]
    assert "0" * 12 in shown[0]


def test_a_log_that_is_a_link_is_not_written(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "loaded.jsonl").symlink_to(victim)
    with pytest.raises(OSError, match="loaded"):
        record.note(tmp_path, Bundle(make(tmp_path / "bundle")), "loaded")
    assert victim.read_text() == "mine"


def test_the_same_contents_have_the_same_time(tmp_path: Path) -> None:
    """By the folder that has them, by what is remembered, by SOURCE_DATE_EPOCH; other contents have another."""
    from builder.core.config.paths import Paths

    paths = Paths(home=tmp_path / "home")
    plan = bundles.planned(bundles.three(weights=2000), made={"commit": "0" * 40})
    first = origin.created(plan.inventory, tmp_path / "none", paths, {})
    times = json.loads(paths.bundles.read_text())
    paths.bundles.write_text(json.dumps(dict.fromkeys(times, MONDAY)))
    assert origin.created(plan.inventory, tmp_path / "none", paths, {}) == MONDAY != first
    other = bundles.planned(bundles.three(weights=2000), made={"commit": "1" * 40})
    assert origin.created(other.inventory, tmp_path / "none", paths, {}) >= first
    out = tmp_path / "out"
    made = bundles.three(weights=2000)
    edge.create(out, core.dated(plan, FRIDAY), PartSource(open=made.open), texts={}, on_progress=lambda _: None)
    assert origin.created(plan.inventory, out, Paths(home=tmp_path / "elsewhere"), {}) == FRIDAY
    assert edge.done(out, core.dated(plan, FRIDAY)) == (out / "inventory.json").read_bytes()
    assert origin.created(plan.inventory, out, paths, {"SOURCE_DATE_EPOCH": "0"}) == "1970-01-01T00:00:00Z"


def test_the_manual_says_what_the_bundle_is(tmp_path: Path) -> None:
    inventory = Bundle(make(tmp_path / "bundle", python="3.11")).inventory
    text = manual.manual(inventory).decode()
    assert FRIDAY in text
    assert "0" * 40 in text
    assert "load.py --native" in text
    assert "{" not in text
    bundles.three(weights=2000).write(tmp_path / "plain")
    assert "--translate" not in text
    text = manual.manual({**inventory, "images": [{"stage": "translate"}]}).decode()
    assert "--run film.mkv --translate English" in text
    assert "--native" not in manual.manual(Bundle(tmp_path / "plain").inventory).decode()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--language", "en"), "--language is about recordings"),
        (("--no-diarization",), "--no-diarization is about recordings"),
        (("--run", "x.wav", "--speakers", "31"), "not a number from 1 to 30"),
        (("--run", "x.wav", "--speakers", "²"), "not a number from 1 to 30"),
        (("--run", "x.wav", "--language", "germn"), 'did you mean "german"'),
        (("--run", "x.wav", "--speakers", "2", "--no-diarization"), "needs diarization"),
        (("--run", "x.wav", "--workflow", "film"), "invalid choice"),
    ],
)
def test_options_of_recordings_are_checked_first(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = load(make(tmp_path / "bundle"), *words)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr


def test_what_stages_tell_of_their_progress_is_read_and_not_believed(tmp_path: Path) -> None:
    """A file that a container writes: nonsense, no number, a line that is cut short, a link in its place."""
    file = tmp_path / "events.jsonl"
    lines = [
        {"stage": "asr", "event": "progress", "input": "01", "done": 3},
        {"stage": "asr", "event": "progress", "input": "01", "done": 4.5},
        {"stage": "vad", "event": "progress", "input": "01", "done": 9},
        *(
            {"stage": "asr", "event": "progress", "input": "02", "done": done}
            for done in ("x", None, True, float("nan"))
        ),
        ["asr"],
    ]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "[" * 100_000 + '\n{"stage": ')
    events_ = running.StageEvents(tmp_path)
    assert events_.progress("asr") == {"01": 4.5}
    with file.open("a") as out:
        out.write('"asr", "event": "progress", "input": "01", "done": 5}\n')
    assert events_.progress("asr") == {"01": 5.0}
    file.unlink()
    file.symlink_to("/dev/zero")
    assert events_.progress("asr") == {}


def test_a_containers_text_steers_no_terminal() -> None:
    assert display.shown("a\x1b[2J\nb é") == "a\\x1b[2J\\x0ab é"
    assert [display.clock(65), display.clock(3725)] == ["1:05", "1:02:05"]
