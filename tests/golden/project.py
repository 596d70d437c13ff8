"""A small, fixed project to render: what the golden files show doesn't change with every update of a lock."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from builder.core.config import parse
from builder.core.config.defaults import configure
from builder.core.config.selection import choose
from builder.core.config.types import BaseSpec, Config
from builder.core.images import plan, render
from builder.core.jobs import compose, sandbox
from builder.core.jobs.job import Job, JobInput
from builder.core.jobs.request import Request, plan_stages
from builder.core.platforms import Platform
from builder.core.terms import Mode, Purpose, Variant, Workflow
from builder.core.weights.model import Model, Pin

ROOT = Path(__file__).resolve().parents[2]
FILES = Path(__file__).parent / "files"
DEBIAN = BaseSpec(kind="debian", suite="bookworm")
REGISTRY = BaseSpec(kind="registry", reference="registry.example:5000/python:3.11-slim", digest="sha256:" + "ab" * 32)
ARM64 = Platform(architecture="arm64")
CASES: dict[str, tuple[Mode, Variant, BaseSpec, Platform | None]] = {
    "native-slim": (Mode.NATIVE, Variant.SLIM, DEBIAN, None),
    "docker-cpu-slim": (Mode.DOCKER_CPU, Variant.SLIM, DEBIAN, None),
    "docker-gpu-slim": (Mode.DOCKER_GPU, Variant.SLIM, REGISTRY, None),
    "docker-cpu-full": (Mode.DOCKER_CPU, Variant.FULL, REGISTRY, None),
    "docker-cpu-slim-arm64": (Mode.DOCKER_CPU, Variant.SLIM, DEBIAN, ARM64),
    "docker-cpu-full-arm64": (Mode.DOCKER_CPU, Variant.FULL, REGISTRY, ARM64),
}


def pin(name: str, version: str = "1.0") -> str:
    return f"{name}=={version} \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{'1' * 64}\n"


LOCKS = {
    "images/requirements-base.txt": pin("dumb-init"),
    "stages/align/requirements-slim.txt": pin("pocketsphinx") + pin("pyyaml"),
    "stages/align/requirements-full.txt": pin("numpy") + pin("pyyaml") + pin("torch") + pin("whisperx"),
    "stages/asr/requirements-slim.txt": pin("ctranslate2") + pin("numpy") + pin("pyyaml"),
    "stages/asr/requirements-slim-gpu.txt": pin("nvidia-cublas-cu12") + pin("nvidia-cudnn-cu12"),
    "stages/asr/requirements-full.txt": pin("ctranslate2")
    + pin("numpy")
    + pin("pyyaml")
    + pin("torch")
    + pin("whisperx"),
    "stages/demux/requirements-slim.txt": pin("av") + pin("numpy") + pin("pyyaml"),
    "stages/diarize/requirements-slim.txt": pin("numpy") + pin("onnxruntime") + pin("pyyaml"),
    "stages/diarize/requirements-full.txt": pin("numpy") + pin("pyannote-audio") + pin("pyyaml") + pin("torch"),
    "stages/metadata/requirements-slim.txt": pin("guessit") + pin("pyyaml"),
    "stages/mux/requirements-slim.txt": pin("av") + pin("pyyaml"),
    "stages/names/requirements-slim.txt": pin("numpy") + pin("pyyaml") + pin("spacy"),
    "stages/translate/requirements-slim.txt": pin("ctranslate2") + pin("numpy") + pin("pyyaml") + pin("sentencepiece"),
    "stages/music/requirements-slim.txt": pin("numpy") + pin("onnxruntime") + pin("pyyaml"),
    "stages/separate/requirements-slim.txt": pin("numpy") + pin("onnxruntime") + pin("pyyaml"),
    "stages/subtitles/requirements-slim.txt": pin("pyyaml"),
    "stages/vad/requirements-slim.txt": pin("numpy") + pin("onnxruntime") + pin("pyyaml"),
}
CONTEXT = {
    "tools/foreign.py": "foreign\n",
    "tools/steps.py": "steps\n",
    "stages/contract.py": "contract\n",
    "stages/media.py": "media\n",
    "stages/asr/main.py": "asr\n",
    "stages/mux/main.py": "mux\n",
}


@functools.cache
def texts() -> dict[str, str]:
    """The project's own images and stages, with fixed requirements."""
    names = [
        "bake.yaml",
        "models.yaml",
        "models.lock",
        *(p.relative_to(ROOT).as_posix() for p in ROOT.glob("images/*.yaml")),
    ]
    files = {name: (ROOT / name).read_text() for name in names}
    for stage in sorted(ROOT.glob("stages/*/stage.yaml")):
        name = stage.parent.name
        full = f"stages/{name}/requirements-full.txt"
        slim = f"stages/{name}/requirements-slim.txt"
        lines = [
            line
            for line in stage.read_text().splitlines()
            if not line.startswith(("requirements:", "  slim", "  full"))
        ]
        gpu = f", slim-gpu: stages/{name}/requirements-slim-gpu.txt" if name == "asr" else ""
        lines.append(f"requirements: {{slim: {slim}, full: {full if full in LOCKS else slim}{gpu}}}")
        files[stage.relative_to(ROOT).as_posix()] = "\n".join(lines) + "\n"
    return files


def read(overrides: dict[str, object], extra: dict[str, str] | None = None) -> Config:
    """The configuration, with some files replaced."""
    return configure(parse.read(texts() | (extra or {})), root=ROOT, env={}, home=None, overrides=overrides)


def interpolated(text: str) -> str:
    """What compose makes of a value when no variable is set."""
    return re.sub(r"\$(\$|\{[^}]*\}|\w+)", lambda m: "$" if m[0] == "$$" else "", text)


@functools.cache
def templates() -> dict[str, str]:
    folder = ROOT / "templates"
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*.j2"))}


def models(settings: Config) -> list[tuple[Model, Pin]]:
    """What the preset ``starter`` chooses."""
    return list(chosen(settings).values())


def chosen(settings: Config) -> dict[Purpose, tuple[Model, Pin]]:
    """The same by purpose."""
    models = choose(settings, preset="starter", variant=settings.defaults.variant, stages=list(settings.stages))
    return {purpose: (model, settings.pins[model.id]) for purpose, model in models.items()}


def rendered(mode: Mode, variant: Variant, base: BaseSpec, platform: Platform | None = None) -> dict[str, str]:
    """Every rendered file of a case."""
    settings = read({"mode": mode.value, "variant": variant.value})
    made = plan.plan(settings, locks=LOCKS, base=base, models=models(settings), platform=platform)
    return render.render(made, templates(), CONTEXT, version="1.2.3")


HOSTILE = '/srv/O\'Neil "& sons"/$HOME ${X} $$ {{ y }}/\\ : # - é\u2028\n\t\x7f\U0001f600/models'
"""A folder as a person may call it."""

PROJECTS = {
    "cpu": compose.Machine(threads=2, memory=4_000_000_000, user=sandbox.user(0, 0)),
    "gpu": compose.Machine(threads=16, memory=64_000_000_000, user=sandbox.user(1000, 100), gpu=1),
    "cdi": compose.Machine(threads=16, memory=64_000_000_000, user=sandbox.user(1000, 100), gpu_driver="cdi"),
}


def job(device: str) -> Job:
    """A job of a long recording and one of unknown length."""
    settings = read({})
    asked = Request(
        workflow=None,
        variant="slim",
        preset="starter",
        models=chosen(settings),
        settings={"asr": {"device": device, "threads": 2}},
    )
    stages = plan_stages(settings.stages, asked, workflow=Workflow.SUBTITLE)
    inputs = tuple(
        JobInput(
            id=f"0{k}",
            name=name,
            path=f"input/0{k}.mp4",
            sha256="0" * 64,
            size=1000,
            output=f"talk-{k}",
            duration=seconds,
        )
        for k, (name, seconds) in enumerate([("$(rm -rf ~).mp4", 600.0), ("'\"${y}.mp4", 31.2)], 1)
    )
    return Job(
        id="20261123-200312-rm-rf-4f2a",
        created="2026-11-23T20:03:12Z",
        workflow="subtitle",
        variant="slim",
        preset="starter",
        key="0" * 64,
        inputs=inputs,
        stages=stages,
    )


def project(case: str) -> str:
    """compose.yaml of a case; one stage has its model inside its image."""
    settings, machine = read({}), PROJECTS[case]
    made = job("cpu" if case == "cpu" else "cuda")
    images = {s.name: compose.StageImage(id=f"sha256:{k:064x}") for k, s in enumerate(made.stages)}
    inside = tuple(use.digest for use in next(s for s in made.stages if s.name == "vad").models.values())
    images["vad"] = compose.StageImage(id=images["vad"].id, models=inside)
    services = compose.services(
        made, images, machine=machine, specs=settings.stages, sizes={i: p.size for i, p in settings.pins.items()}
    )
    template = (ROOT / "compose" / compose.TEMPLATE).read_text()
    return compose.render(template, made, services, machine=machine, models=HOSTILE)


if __name__ == "__main__":  # python -m tests.golden.project writes them anew
    for case, arguments in CASES.items():
        for name, text in rendered(*arguments).items():
            if name in ("Dockerfile", "docker-bake.json"):
                (FILES / f"{case}.{name}").write_text(text)
    from tests.golden import batches, pipelines, report

    (FILES / "report.html").write_text(report.rendered())
    for case in PROJECTS:
        (FILES / f"{case}.compose.yaml").write_text(project(case))
    for name, words in pipelines.CASES.items():
        (FILES / f"{name}.yml").write_text(pipelines.rendered(*words))
    for name, text in batches.rendered().items():
        (FILES / name).write_text(text)
