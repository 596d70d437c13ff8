"""A bundle whose images translate, on a machine without a network: the loader's jobs are the builder's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine import private_engine
from tests.engine.conftest import ONE_STORE, Engine, copy_project
from tests.engine.test_bundle import OTHER, Receiver, short


@pytest.mark.heavy
@ONE_STORE
def test_a_recording_is_translated_by_what_came_in_the_bundle(engine: Engine, tmp_path: Path) -> None:
    """English into Spanish by Apertium, with a term of the receiver's own, as ``run -t es`` does it; French is refused first."""
    project, out = copy_project(tmp_path), tmp_path / "bundle"
    with (project / "bake.yaml").open("a") as file:
        file.write("\ntranslation:\n  apertium: [eng-spa]\n")
    words, env = ("--mode", "docker-cpu", "--json"), {"BAKE_EXTRAS": "translate"}
    done = engine.bake("bundle", "create", out, *words, env=env, root=project)
    assert done.code == 0, done.err
    (tmp_path / "there").mkdir()
    recording, terms = short(tmp_path / "there/call.mp4"), tmp_path / "there/terms.tsv"
    terms.write_text("term\tes\nradio hour\tHora de Radio Puerto\n")
    with private_engine.namespace() as netns, private_engine.engine(OTHER[engine.store], netns=netns) as host:
        receiver = Receiver(Engine(host, OTHER[engine.store], engine.prefix, tmp_path), netns, tmp_path / "there")
        loaded = receiver.load(out, "--allow-unsigned", "--accept")
        assert loaded.code == 0, loaded.err
        refused = receiver.load(out, "--run", recording, "--language", "en", "--translate", "fr")
        assert refused.code == 2
        assert "from en it translates into es (apertium)" in refused.err
        told = receiver.load(out, "--run", recording, "--language", "en", "--translate", "Spanish", "--glossary", terms)
        assert told.code == 0, told.err
        results = {path.name: path for path in map(Path, told.out.splitlines())}
        theirs = {name: results[name].read_text() for name in ("call.en.srt", "call.es.srt")}
        shown = engine.bake("jobs", "list", "--json", env={"BAKE_JOBS": str(receiver.target / "jobs")}, root=project)
        assert "Hora de Radio Puerto" in " ".join(theirs["call.es.srt"].split())
        assert [job["workflow"] for job in shown.data] == ["translate"]
    same = ("-s", "en", "-t", "es", "--glossary", terms)
    ran = engine.bake("run", recording, *same, "--no-build", *words, env=env, root=project)
    assert ran.code == 0, ran.err
    assert {name: (Path(ran.data["output"]) / name).read_text() for name in theirs} == theirs
