"""A job of ``load.py --run`` is the job that ``build.py run`` makes of the same recording with the same options."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.core import glossary, languages, translation
from builder.core.images import plan
from builder.core.jobs import compose, job_file, sandbox
from builder.core.jobs.job import JobInput
from builder.core.jobs.request import Request, plan_stages, request_key
from builder.core.terms import Mode, Purpose, Workflow
from builder.edges.bundle import acceptance
from builder.edges.bundle.acceptance import NONE, Translations
from builder.edges.jobs import folder as jobs
from builder.receiver import options
from builder.receiver.inventory import LoaderError
from builder.receiver.jobs import job as folders
from builder.receiver.jobs import naming, recordings
from builder.receiver.jobs.container import container
from builder.receiver.jobs.job import JobAsked, planned_stages, service
from builder.workflows import bundle
from builder.workflows.images import ImageSelection
from tests.golden import project

SETTINGS: dict[str, dict[str, Any]] = {
    "asr": {"language": None, "threads": 2, "device": "cpu"},
    "align": {"threads": 2, "device": "cpu"},
    "diarize": {"threads": 2, "device": "cpu", "speakers": None},
    "translate": {"threads": 2},
}
IDS = {Purpose.ASR: "base", Purpose.VAD: "silero-vad", Purpose.EMBEDDING: "d-vector"}
NLLB = project.read({}).models["nllb-200-600m-int8"]
RULES = (
    *translation.heard(project.read({}).models["base"]),
    *translation.apertium((), Mode.DOCKER_CPU, ["eng-spa", "spa-cat"]),
)
OFFERED = {
    "nothing": NONE,
    "rules": Translations(pairs=RULES),
    "neural": Translations(pairs=(*translation.neural(NLLB), *RULES), model=(NLLB, project.read({}).pins[NLLB.id])),
}


TERMS = glossary.for_job(glossary.parse("g.tsv", "term\theard\tdoubtful\ten\nAda\tAida\tIda|Eda\tAda L.\n"))


def request(asked: JobAsked, threads: int = 2, offered: Translations = NONE) -> Request:
    """What the builder makes of the same options."""
    config = project.read({})
    models = {
        p: (config.models[i], config.pins[i])
        for p, i in IDS.items()
        if asked.diarization or p in (Purpose.ASR, Purpose.VAD)
    }
    settings = {name: {**values, "threads": threads} for name, values in SETTINGS.items()}
    settings["asr"]["language"] = asked.language
    settings["diarize"]["speakers"] = asked.speakers
    to, spoken = ",".join(asked.to) or None, languages.spoken(asked.language)
    translation.settle(settings, to, source=spoken, pairs=offered.pairs)
    models |= {Purpose.TRANSLATION: offered.model} if offered.model else {}
    models = translation.loaded(models, settings)
    made = Request(
        workflow=None, variant="slim", preset="fast", models=models, settings=settings, diarization=asked.diarization
    )
    return glossary.with_glossary(made, glossary.of_job(asked.glossary or b""))


def made(asked: JobAsked, workflow: str, folder: str, offered: Translations = NONE) -> dict[str, Any]:
    """job.yaml as the loader writes it."""
    template = json.loads(json.dumps(acceptance.template(project.read({}), request(JobAsked()), offered)))
    stages = planned_stages(template, asked, workflow=workflow, threads=6)
    entry = {"id": "01", "name": "a $b.mp4", "path": "input/01.mp4", "sha256": "0" * 64, "size": 1, "output": "a $b"}
    return {
        **folders.recipe(template),
        "id": folder,
        "workflow": workflow,
        "mode": "docker-cpu",
        "key": naming.key_of([("a $b.mp4", "0" * 64, None)], stages, workflow),
        "inputs": [{**template["inputs"][0], **entry, "clip": None, "duration": 3.5}],
        "stages": stages,
    }


@pytest.mark.parametrize("workflow", ["subtitle", "transcribe"])
@pytest.mark.parametrize(
    ("asked", "offers"),
    [
        (JobAsked(), "nothing"),
        (JobAsked(language="de", speakers=2), "neural"),
        (JobAsked(diarization=False), "nothing"),
        (JobAsked(language="en"), "rules"),
        (JobAsked(to=("en",)), "rules"),  # heard, and Apertium is asked where that is in doubt
        (JobAsked(language="es", to=("en", "ca"), diarization=False), "rules"),
        (JobAsked(language="auto-segments", to=("en", "hi")), "neural"),
        (JobAsked(language="es", to=("en", "ca"), speakers=3), "neural"),
        (JobAsked(glossary=TERMS), "nothing"),
        (JobAsked(language="es", to=("en",), glossary=TERMS), "rules"),
    ],
)
def test_the_same_options_make_the_same_job(asked: JobAsked, offers: str, workflow: str, tmp_path: Path) -> None:
    """Stages, settings, models, key; and the builder reads it as one of its own."""
    config = project.read({})
    folder = tmp_path / naming.job_id("2026-11-26T08:00:00Z", "a $b.mp4", "4f2a")
    folders.make_parts(folder)
    folders.write_job(folder, made(asked, workflow, folder.name, OFFERED[offers]))
    job = jobs.read(config, folder)
    expected = plan_stages(
        config.stages, request(asked, threads=6, offered=OFFERED[offers]), workflow=Workflow(workflow)
    )
    assert [s.name for s in job.stages] == [s.name for s in expected]
    for stage, other in zip(job.stages, expected, strict=True):
        assert replace(stage, settings={}) == replace(other, settings={})
        assert dict(stage.settings) == dict(other.settings), stage.name
    entry = JobInput(id="01", name="a $b.mp4", path="input/01.mp4", sha256="0" * 64, size=1, output="a $b")
    assert job.key == request_key([entry], expected, workflow)
    assert job_file.stray(job, folder.name, stages=config.stages, models=config.models) is None
    assert (folder / "events.jsonl").is_file()


def test_what_the_bundles_models_cannot_do_is_refused() -> None:
    template = acceptance.template(project.read({}), request(JobAsked()))
    for stage in template["stages"]:
        for model in stage["models"].values():
            model["languages"] = ["en"]
    with pytest.raises(LoaderError, match="knows en, not de") as refused:
        planned_stages(template, JobAsked(language="de"), workflow="subtitle", threads=1)
    assert refused.value.code == 2
    template["stages"] = [stage for stage in template["stages"] if stage["name"] != "diarize"]
    with pytest.raises(LoaderError, match="needs diarization"):
        planned_stages(template, JobAsked(speakers=2), workflow="subtitle", threads=1)


def test_what_images_translate_is_offered() -> None:
    """By the bundle's images and models alone: what this machine has is not the receiver's."""
    config = replace(project.read({"mode": "docker-cpu"}), apertium=("eng-spa",))
    models = [*project.models(config), (NLLB, config.pins[NLLB.id])]

    def offered(extras: tuple[str, ...], id_: str = "base") -> Translations:
        mine = replace(config, defaults=replace(config.defaults, extras=extras))
        planned = plan.plan(mine, locks=project.LOCKS, base=project.DEBIAN, models=models)
        hears = {Purpose.ASR: (config.models[id_], config.pins[id_])}
        return acceptance.translations(mine, replace(request(JobAsked()), models=hears), planned)

    assert offered(()) == NONE
    found = offered(("translate",))
    assert found.model == models[-1]
    assert list(dict.fromkeys(pair.backend for pair in found.pairs)) == ["nmt", "whisper", "apertium"]
    assert "whisper" not in {pair.backend for pair in offered(("translate",), "tiny.en").pairs}
    assert bundle._example_options(config, ImageSelection(models=f"base, {NLLB.id}")).models == "base"
    assert bundle._example_options(config, ImageSelection()).models is None


TRANSLATIONS = [
    ("nothing", None, ("en",), "nothing in this bundle translates", []),
    ("rules", "es", ("es",), "es is what is spoken", []),
    ("rules", "en", ("en",), "en is what is spoken", []),
    ("rules", None, ("es",), "a language that is to be detected into es", ["from any language it translates into en"]),
    ("rules", "es", ("en", "hi"), "es into hi", ["from es it translates into en (whisper), en (apertium), ca"]),
    ("neural", "zh", ("br",), "zh into br", ["from zh it translates into af (nmt), am (nmt)"]),
]


@pytest.mark.parametrize(("offers", "language", "to", "what", "listed"), TRANSLATIONS)
def test_pairs_that_a_bundle_does_not_have_are_refused_with_those_that_it_has(
    offers: str, language: str | None, to: tuple[str, ...], what: str, listed: list[str]
) -> None:
    template = acceptance.template(project.read({}), request(JobAsked()), OFFERED[offers])
    with pytest.raises(LoaderError) as refused:
        planned_stages(template, JobAsked(language=language, to=to), workflow="subtitle", threads=1)
    assert refused.value.code == 2
    assert what in refused.value.what
    assert [line[: len(start)] for line, start in zip(refused.value.detail, listed, strict=True)] == listed


def test_a_backend_that_the_sender_wants_is_taken() -> None:
    """Its setting translate.backends holds for the receiver's jobs, too; where it has no pair, nothing else is taken."""
    asked = request(JobAsked())
    wish = {**asked.settings, "translate": {"backends": "English=apertium", "llm_endpoint": "https://llm.example/v1"}}
    template = acceptance.template(project.read({}), replace(asked, settings=wish), OFFERED["rules"])
    stages = planned_stages(template, JobAsked(language="es", to=("en",)), workflow="subtitle", threads=1)
    settings = {stage["name"]: stage["settings"] for stage in stages}
    assert settings["translate"]["backends"] == "en=apertium"
    assert settings["translate"]["llm_endpoint"] is None
    assert settings["asr"]["english"] is False
    with pytest.raises(LoaderError, match="into en"):
        planned_stages(template, JobAsked(language="de", to=("en",)), workflow="subtitle", threads=1)


def test_the_example_is_not_translated(tmp_path: Path) -> None:
    """Its job is the same whatever the images translate."""
    (tmp_path / "call.mp4").write_bytes(b"sound")
    found = []
    for offered in OFFERED.values():
        template = acceptance.template(project.read({}), request(JobAsked()), offered)
        (tmp_path / "job.json").write_text(json.dumps(template))
        found.append(folders.new_job(tmp_path / "job.json", tmp_path / "call.mp4", "call.mp4", tmp_path / "acceptance"))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    "text", ["", ",", "klingon", "auto", "en,auto", "auto-segments", "en,es,fr,de,it,pt,nl,pl,ru,ja,zh"]
)
def test_what_is_no_language_to_translate_into_is_refused(text: str) -> None:
    assert recordings.targets_of("English, es,Spanish , de") == ("en", "es", "de")
    with pytest.raises(LoaderError) as refused:
        recordings.targets_of(text)
    assert refused.value.code == 2


@pytest.mark.parametrize("ways", [7, [7], [{"backend": "nmt"}], {"a": 1}])
def test_a_template_that_is_damaged_is_refused(ways: Any, tmp_path: Path) -> None:
    """Before a recording is copied."""
    template = acceptance.template(project.read({}), request(JobAsked()))
    (tmp_path / "job.json").write_text(json.dumps({**template, "translation": ways}))
    with pytest.raises(LoaderError, match="not whole"):
        recordings._template({"acceptance": {"job": "job.json"}}, tmp_path)  # type: ignore[typeddict-item]


def test_its_compose_file_says_what_the_builders_says(tmp_path: Path) -> None:
    """Service by service: rights, limits, order, labels, what an engine keeps of what they print."""
    job, data = made(JobAsked(), "subtitle", "20261126-080000-a-4f2a"), sandbox.as_data()
    config = project.read({})
    services = {
        stage["name"]: service(
            {
                **container(
                    data,
                    image="sha256:" + "0" * 64,
                    folder=Path(),
                    uid=0,
                    gid=0,
                    threads=int(stage["settings"].get("threads", 1)),
                    memory=1_000_000_000,
                    cpus=6,
                ),
                "Labels": {compose.JOB: job["id"], compose.STAGE: stage["name"]},
            },
            stage,
            job,
        )
        for stage in job["stages"]
    }
    ours = yaml.safe_load(folders.compose_text(job, services))
    read = job_file.from_yaml(yaml.safe_dump(job), "job.yaml")
    images = {
        s.name: compose.StageImage(id="sha256:" + "0" * 64, models=tuple(u.digest for u in s.models.values()))
        for s in read.stages
    }
    machine = compose.Machine(threads=6, memory=64_000_000_000, user=sandbox.user(0, 0))
    containers = compose.services(read, images, machine=machine, specs=config.stages, sizes={})
    template = (project.ROOT / "compose" / compose.TEMPLATE).read_text()
    theirs = yaml.safe_load(compose.render(template, read, containers, machine=machine, models="/m"))
    assert ours["name"] == theirs["name"]
    assert list(ours["services"]) == list(theirs["services"])
    for name, expected in theirs["services"].items():
        found = ours["services"][name]
        needs = {n: {"required": True, **how} for n, how in expected.get("depends_on", {}).items()}
        limits = {"mem_limit": 1_000_000_000, "memswap_limit": 1_000_000_000}
        options = expected["logging"]["options"]
        expected["logging"]["options"] = {key: str(value) for key, value in options.items()}
        volumes = [{**m, "source": m["source"].removeprefix("./")} for m in expected["volumes"]]
        found["volumes"] = [{**m, "source": m["source"].removeprefix("./")} for m in found["volumes"]]
        expected = {**expected, **limits, "volumes": volumes, **({"depends_on": needs} if needs else {})}
        assert found == expected, name


@pytest.mark.parametrize(
    ("name", "data", "what", "hint"),
    [
        ("g.yaml", b"terms: [Ada]", "no reader of YAML", r"table \(\.tsv\)"),
        ("g.txt", None, "No such file", "check the path"),
        ("g.txt", b"\n# nobody\n", "has no terms", "a term a line"),
        ("g.txt", b"Ada\n\xff", r"g\.txt:2: this isn't UTF-8", "UTF-8"),
        ("g.txt", b"a" * ((4 << 20) + 1), "more than 4 MiB", "a term a line"),
        ("g.txt", b"Ada\nada", r"g\.txt:2: .*line 1 too", "take one of them out"),
        ("g.tsv", b"term\tkeep\nAda\tperhaps", r"g\.tsv:2: keep", "expected: yes or no"),
        ("g.tsv", b"term\tkep\nAda\tyes", r"g\.tsv:1: no column", "did you mean"),
        ("g.txt", b"\n".join(b"t%d" % k for k in range(5001)), r"g\.txt:5001: more than 5000", "change this line"),
    ],
    ids=["yaml", "missing", "empty", "latin", "large", "twice", "keep", "column", "many"],
)
def test_a_file_that_is_no_glossary_is_refused_with_its_line(
    name: str, data: bytes | None, what: str, hint: str, tmp_path: Path
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(LoaderError, match=what) as refused:
        options.glossary_of(tmp_path / name)
    assert refused.value.code == 2
    assert re.search(hint, refused.value.do)


def test_a_glossary_lies_in_the_job_as_the_builder_writes_it(tmp_path: Path) -> None:
    """For those who may read the recording; a bundle from before there were any says so."""
    (tmp_path / "input").mkdir()
    (tmp_path / "g.tsv").write_bytes("\ufeffterm\theard\tdoubtful\ten\r\nAda\tAida\tIda|Eda\tAda L.\r\n".encode())
    told = options.glossary_of(tmp_path / "g.tsv")
    assert (told, options.glossary_of(None)) == (TERMS, None)
    recordings._write_terms(tmp_path, JobAsked(glossary=told), 0o040)
    written = tmp_path / glossary.FILE
    assert (written.read_bytes(), written.stat().st_mode & 0o777) == (TERMS, 0o640)
    template = acceptance.template(project.read({}), request(JobAsked()))
    for stage in template["stages"]:
        stage["settings"].pop("glossary", None)
    with pytest.raises(LoaderError, match="know no glossary"):
        planned_stages(template, JobAsked(glossary=told), workflow="subtitle", threads=1)
