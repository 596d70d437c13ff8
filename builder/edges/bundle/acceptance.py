"""The acceptance run: the example's job, and what the sender's images make of it, to compare the receiver's run with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from builder.core import translation
from builder.core.config.types import Config
from builder.core.images.plan import Plan
from builder.core.jobs import compose, job_file, sandbox
from builder.core.jobs import job as spec
from builder.core.jobs.request import Request, plan_stages
from builder.core.progress import OnProgress, Progress
from builder.core.terms import Purpose, Workflow
from builder.core.translation import Pair
from builder.core.voices import known
from builder.core.weights.model import PinnedModel
from builder.edges.bundle import folder as bundle
from builder.edges.engine.connection import Engine, steady
from builder.edges.system import files
from builder.errors import UsageError
from builder.receiver.engine import EngineSocket
from builder.receiver.jobs.job import new_job
from builder.receiver.jobs.run import LARGEST_RESULT, results_of, run_job, words_of
from builder.receiver.jobs.translating import TRANSLATE, WAYS, backends_text, ways_as_data
from builder.receiver.jobs.untrusted import json_below, sha256_below

EXAMPLE = "examples/dialogue.mp4"
"""The recording, of the shipped files."""

JOB, EXPECTED = "job.json", "expected.json"
"""The job's template and what came out of it: names of files in the cache, and below ``job/`` in a bundle."""


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """What a bundle carries for the acceptance run."""

    paths: Mapping[str, str]
    """``job``, ``expected`` and ``recording`` -> path in the bundle."""
    files: Mapping[str, bytes | Path]
    """Path in the bundle -> the file here."""


def acceptance(
    config: Config, request: Request, plan: Plan, engine: Engine, on_progress: OnProgress
) -> Acceptance | None:
    """Run the example as the receiver will run it; a result is kept for the same images.

    Args:
        request: what the example's job is asked to do.

    Returns:
        None where the images are not those of a whole job, or the engine is on another machine.

    Raises:
        StageError: a stage fails.
        MissingError, IntegrityError: the engine went away, or refuses.
    """
    recording = config.shipped / EXAMPLE
    job = template(config, request, translations(config, request, plan))
    images = steady(lambda: {i.stage: str(engine.client.images.get(i.tag).id) for i in plan.images if i.stage})
    if not recording.is_file() or not engine.host.startswith("unix:"):
        return None
    if {stage["name"] for stage in job["stages"]} - set(images):
        return None
    key = hashlib.sha256(json.dumps([images, job, files.sha256(recording)], sort_keys=True).encode()).hexdigest()
    cached = config.paths.acceptance / key[:32]
    if not (cached / EXPECTED).is_file():
        on_progress(Progress(what="example", note="running it, for the receiver to compare with"))
        files.write_json(cached / JOB, job)
        job_folder = cached / f"example-{key[:12]}"
        _run(engine.host, images, recording, cached / JOB, job_folder, stage_memory(config, plan), on_progress)
        files.write_json(cached / EXPECTED, _results(recording.name, job_folder))
        shutil.rmtree(job_folder)
    paths = {"job": f"job/{JOB}", "expected": f"job/{EXPECTED}", "recording": f"job/{recording.name}"}
    return Acceptance(
        paths=paths,
        files={paths["job"]: cached / JOB, paths["expected"]: cached / EXPECTED, paths["recording"]: recording},
    )


def with_voices(example: Acceptance | None, voices: bytes) -> Acceptance | None:
    """The same with known voices, which its own recording isn't compared with, but the receiver's are.

    Raises:
        UsageError: there is nothing that would know them.
    """
    if not voices:
        return example
    if example is None:
        raise UsageError(
            "the images of this bundle are not those of a whole job", where="--voices", hint="leave it out"
        )
    path = f"job/{PurePosixPath(known.FILE).name}"
    return Acceptance(paths={**example.paths, "voices": path}, files={**example.files, path: voices})


def _run(
    host: str,
    images: Mapping[str, str],
    recording: Path,
    template_file: Path,
    job_folder: Path,
    memory: Mapping[str, int],
    on_progress: OnProgress,
) -> None:
    """Run the example with the loader's own code.

    Args:
        memory: stage -> bytes.
    """

    def on_line(line: str) -> None:
        on_progress(Progress(what="example", note=line.strip()))

    with bundle.loader_errors(job_folder):
        job = new_job(template_file, recording, recording.name, job_folder)
        run_job(EngineSocket(host), images, job, job_folder, on_line, sandbox=sandbox.as_data(), memory=memory)


def _results(name: str, job_folder: Path) -> dict[str, Any]:
    """What the receiver compares its own run with: the digests of all results, and the words.

    Args:
        name: of the recording.
    """
    found = {path: sha256_below(job_folder, path, LARGEST_RESULT) for path in results_of(job_folder)}
    digests = {path: digest for path, digest in found.items() if digest is not None}
    result = next((path for path in digests if path.endswith(".json")), "")
    words = words_of(json_below(job_folder, result))
    return {"name": name, "files": digests, "result": result, "words": words}


def stage_memory(config: Config, plan: Plan) -> dict[str, int]:
    """Stage -> bytes that its container should get for a recording of unknown length."""
    return {
        image.stage: compose.planned(
            config.stages[image.stage],
            config.defaults.variant.value,
            seconds=sandbox.UNKNOWN,
            models=sum(pin.size for _, pin in plan.loaded(image)),
        )
        for image in plan.images
        if image.stage
    }


@dataclass(frozen=True, kw_only=True)
class Translations:
    """What images translate."""

    pairs: Sequence[Pair] = ()
    """The better backends first, as a job of this machine would choose them."""
    model: PinnedModel | None = None
    """The one that a neural backend loads."""


NONE = Translations()


def translations(config: Config, request: Request, plan: Plan) -> Translations:
    """What the images of a plan translate, of recordings that the request's model hears."""
    if TRANSLATE not in {image.stage for image in plan.images}:
        return NONE
    model = next((use for use in plan.every if use[0].purpose is Purpose.TRANSLATION), None)
    pairs = (
        *(translation.neural(model[0]) if model else ()),
        *translation.heard(request.models[Purpose.ASR][0]),
        *translation.apertium((), config.defaults.mode, config.apertium),
    )
    return Translations(pairs=[pair for pair in pairs if pair.ready], model=model)


def template(config: Config, request: Request, offered: Translations = NONE) -> Any:
    """The example's job.yaml as data, without what belongs to one run or one recording.

    Where images translate, it has that stage, and the list that the loader chooses of; the example's own job does without.
    """
    import yaml

    stages = plan_stages(config.stages, _translated(request, offered), workflow=Workflow.SUBTITLE)
    recording = spec.JobInput(id="01", name="", path="", sha256="", size=0, output="")
    job = spec.Job(
        id="acceptance",
        created="2020-01-01T00:00:00Z",
        workflow=Workflow.SUBTITLE.value,
        variant=request.variant,
        preset=request.preset,
        key="0" * 64,
        inputs=(recording,),
        stages=stages,
    )
    data = yaml.safe_load(job_file.to_yaml(job))
    if not offered.pairs:
        return data
    for stage in data["stages"]:
        if stage["name"] == TRANSLATE:
            stage["settings"][translation.TO] = None
    return data | {WAYS: ways_as_data(offered.pairs)}


def _translated(request: Request, offered: Translations) -> Request:
    """The request, with the stage that translates where there is anything that it could do."""
    if not offered.pairs:
        return request
    mine = request.settings.get(TRANSLATE, {})
    settings = {
        **mine,
        translation.TO: offered.pairs[0].target,
        translation.BACKENDS: backends_text(translation.wishes(mine.get(translation.BACKENDS))) or None,
        # The receiver's machine has no network, and the sender's address is nobody's business.
        "llm": None,
        "llm_endpoint": None,
    }
    models = {**request.models, **({Purpose.TRANSLATION: offered.model} if offered.model else {})}
    return replace(request, settings={**request.settings, TRANSLATE: settings}, models=models)
