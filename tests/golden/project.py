"""A small, fixed project to render: what the golden files show doesn't change with every update of a lock."""

from __future__ import annotations

import functools
from pathlib import Path

from builder.core import config, plan, render
from builder.core.types import BaseSpec, Config, Mode, Variant

ROOT = Path(__file__).resolve().parents[2]
FILES = Path(__file__).parent / "files"
DEBIAN = BaseSpec(kind="debian", suite="bookworm")
REGISTRY = BaseSpec(kind="registry", reference="registry.example:5000/python:3.11-slim", digest="sha256:" + "ab" * 32)
CASES = {
    "native-slim": (Mode.NATIVE, Variant.SLIM, DEBIAN),
    "docker-cpu-slim": (Mode.DOCKER_CPU, Variant.SLIM, DEBIAN),
    "docker-gpu-slim": (Mode.DOCKER_GPU, Variant.SLIM, REGISTRY),
    "docker-cpu-full": (Mode.DOCKER_CPU, Variant.FULL, REGISTRY),
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
    "stages/demux/requirements-slim.txt": pin("av") + pin("pyyaml"),
    "stages/diarize/requirements-slim.txt": pin("numpy") + pin("onnxruntime") + pin("pyyaml"),
    "stages/diarize/requirements-full.txt": pin("numpy") + pin("pyannote-audio") + pin("pyyaml") + pin("torch"),
    "stages/mux/requirements-slim.txt": pin("av") + pin("pyyaml"),
    "stages/subtitles/requirements-slim.txt": pin("pyyaml"),
    "stages/vad/requirements-slim.txt": pin("numpy") + pin("onnxruntime") + pin("pyyaml"),
}
CONTEXT = {"tools/steps.py": "steps\n", "stages/contract.py": "contract\n", "stages/asr/main.py": "asr\n",
           "stages/mux/main.py": "mux\n"}  # fmt: skip


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
    return config.parse(texts() | (extra or {}), root=ROOT, env={}, overrides=overrides)


@functools.cache
def templates() -> dict[str, str]:
    folder = ROOT / "templates"
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*.j2"))}


def rendered(mode: Mode, variant: Variant, base: BaseSpec) -> dict[str, str]:
    """Every rendered file of a case."""
    settings = read({"mode": mode.value, "variant": variant.value})
    chosen = settings.presets["starter"].models.values()
    models = [(settings.models[ids[0]], settings.pins[ids[0]]) for ids in chosen]
    made = plan.plan(settings, locks=LOCKS, base=base, models=models)
    return render.render(made, templates(), CONTEXT, version="1.2.3")


if __name__ == "__main__":  # python -m tests.golden.project writes them anew
    for case, arguments in CASES.items():
        for name, text in rendered(*arguments).items():
            if name in ("Dockerfile", "docker-bake.json"):
                (FILES / f"{case}.{name}").write_text(text)
