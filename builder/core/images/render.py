"""A plan as files: the Dockerfile, docker-bake.json and what they need. Pure, byte for byte.

Every string that a person can configure goes through a filter that quotes it or refuses it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from builder.core.config import requirements
from builder.core.images import assembly, currency
from builder.core.images.plan import Plan, PlannedImage, fingerprint
from builder.core.quoting import environment, exec_, name_, plain, quoted, reference, unplain
from builder.core.stage_env import stage_environment
from builder.core.terms import JOB_SCHEMA
from builder.core.weights import layers
from builder.core.weights.model import FilePin, HubSource, Model, Pin, UrlSource, snapshot_path
from builder.errors import ConfigError

ENTRY = ("/opt/bake/lib/bin/dumb-init", "--", "python3")
"""An init that passes on signals, then the stage."""

USER = "1000:0"
"""Who runs in a container that says nothing of it: nobody, in group 0."""

LIBRARIES = "/opt/bake/lib"
CUDA_PATHS = ":".join(f"{LIBRARIES}/nvidia/{name}/lib" for name in ("cublas", "cudnn", "cuda_runtime", "cuda_nvrtc"))
"""Where CTranslate2 and ONNX Runtime find what they open by name."""

FOREIGN = "tools/foreign.py"
"""The build steps of images of another platform; images of the engine's own don't depend on it."""

EPOCH = "1577836800"
"""Default of SOURCE_DATE_EPOCH: 2020-01-01, the time of every file in a layer."""


def render(plan: Plan, templates: Mapping[str, str], files: Mapping[str, str], *, version: str) -> dict[str, str]:
    """Every text file of the rendered folder, by path.

    Args:
        templates: text of ``templates/*.j2``, by name.
        files: what build stages copy: ``tools/…`` and ``stages/…``, by path in the rendered folder.
        version: of this project, for labels.
    """
    templating = environment(templates, name=name_, reference=reference, quoted=quoted, exec=exec_)
    chosen = [i.stage for i in plan.images if i.stage]
    rendered = {
        path: text
        for path, text in sorted(files.items())
        if (not path.startswith("stages/") or any(is_code_of(stage, path) for stage in chosen)) and _fetches(plan, path)
    }
    for library in plan.libraries.values():
        rendered[library.file] = requirements.dump(library.packages)
    arguments = arguments_of(plan)
    for model, pin in plan.models:
        rendered[f"weights/{model.id}.json"] = _weights(model, pin)
    rendered["Dockerfile"] = templating.get_template("Dockerfile.j2").render(
        plan=plan,
        libraries=plan.libraries,
        user=USER,
        models=[model for model, _ in plan.models],
        arguments=arguments,
        entries={i.name: entry(i) for i in plan.images if i.stage},
        environments={i.name: environment_of(i) for i in plan.images},
    )
    rendered["docker-bake.json"] = (
        json.dumps(_bake(plan, templates, rendered, version), indent=2, ensure_ascii=False) + "\n"
    )
    return rendered


def _fetches(plan: Plan, path: str) -> bool:
    """Whether a file of the build stages is needed for this plan: what fetches weights, and what is for other platforms."""
    if path == FOREIGN:
        return plan.platform is not None
    if not path.startswith("weights/"):
        return True
    return bool(plan.models) if path == "weights/fetch.py" else any(model.convert for model, _ in plan.models)


def arguments_of(plan: Plan) -> dict[str, str]:
    """Model -> the build argument that chooses it: ``WITH_TINY_EN`` for tiny.en."""
    arguments = {model.id: "WITH_" + re.sub(r"[^A-Z0-9]", "_", model.id.upper()) for model, _ in plan.models}
    if len(set(arguments.values())) < len(arguments):
        raise ConfigError(
            "two models would have one build argument",
            where=", ".join(arguments),
            expected="ids that differ in letters or digits",
        )
    return arguments


def _weights(model: Model, pin: Pin) -> str:
    """What images/weights/fetch.py reads: files, sources, and the texts that stand beside the files."""
    sources: list[dict[str, Any]] = []
    for source in model.sources:
        if isinstance(source, HubSource):
            sources.append({"kind": "hub", "repo": source.repo, "revision": pin.revision})
        elif isinstance(source, UrlSource):
            sources.append({"kind": "url", "url": source.url})
        else:
            parts = {path: [[m.wheel, m.member] for m in members] for path, members in source.files.items()}
            options = list(source.tag.options) if source.tag else []
            sources.append({"kind": "wheels", "wheels": dict(source.wheels), "files": parts, "options": options})
    members = [m for layer in layers.layers(model, pin) for m in layer.members]
    convert = None
    if model.convert is not None:
        origin = next(f for f in pin.source_files if f.path == model.convert.source)
        how = {"how": model.convert.how, "labels": model.convert.labels}
        convert = {**how, "source": origin.path, "result": model.convert.result, "pin": _pin(origin)}
    value = {
        "folder": f"{layers.ROOT}/{snapshot_path(model, pin)}",
        "own": layers.own(model, pin),
        "sources": sources,
        "files": [_pin(f) for f in pin.files],
        "texts": {m.path: m.text for m in members if m.source is None},
        "convert": convert,
    }
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _pin(file: FilePin) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "sha256": file.sha256}


def entry(image: PlannedImage) -> list[str]:
    """The entry point of a stage's image."""
    return [*ENTRY, f"/opt/bake/stages/{image.stage}/main.py"]


def environment_of(image: PlannedImage) -> dict[str, str]:
    """Variables that an image adds to its parent's."""
    if image.parent is None:
        fixed = stage_environment(models="/models", scratch="/tmp", threads=1, inherit={})
        del fixed["OMP_NUM_THREADS"]  # the job says how many
        return {**fixed, "PYTHONPATH": LIBRARIES, "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}
    if image.gpu:
        return {
            "LD_LIBRARY_PATH": CUDA_PATHS,
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        }
    return {}


def plain_labels(made: Mapping[str, str], image: PlannedImage) -> dict[str, str]:
    """The labels of the bake file that are known without a build: an image gets today's, whenever its code was built."""
    labels = json.loads(made["docker-bake.json"])["target"][image.name]["labels"]
    return {name: unplain(text) for name, text in labels.items() if not re.search(r"(?<!\$)\$\{", text)}


def is_code_of(stage: str, path: str) -> bool:
    """Whether an image of the stage holds a file of the rendered folder: the stage's own, and what all stages share."""
    folder, _, name = path.rpartition("/")
    return path.startswith(f"stages/{stage}/") or (folder == "stages" and name.endswith(".py"))


def code_digest(made: Mapping[str, str], stage: str) -> str:
    """Hex sha256 over a stage's Python files and those that all stages share, as stages/contract.py computes it."""
    own = sorted(path for path in made if is_code_of(stage, path))
    digest = hashlib.sha256()
    for path in sorted(own, key=lambda path: path.startswith(f"stages/{stage}/")):
        digest.update(path.rpartition("/")[2].encode() + b"\0" + made[path].encode() + b"\0")
    return digest.hexdigest()


def code_label(stage: str, digest: str) -> str:
    """The value of :data:`builder.core.images.currency.CODE`: an image of that code is found by it, whoever built it."""
    return f"{stage}:{digest}"


def inputs(plan: Plan, templates: Mapping[str, str], made: Mapping[str, str], image: PlannedImage) -> str:
    """Hex sha256 of all that an image is made from, its parents' share with it.

    From what it consists of, not from the Dockerfile: two modes that have the same image agree on it.
    """
    texts = {name: text for name, text in templates.items() if name.startswith("blocks/")}
    texts |= {"base": repr(plan.base), "packages": " ".join(plan.debian_packages)}
    if plan.platform is not None:
        texts |= {name: text for name, text in templates.items() if name.startswith("foreign/")}
        texts["platform"] = plan.platform.name
    for link in plan.chain(image):
        texts[f"environment {link.name}"] = repr(sorted(environment_of(link).items()))
        texts[f"libraries {link.name}"] = "".join(made[plan.libraries[n].file] for n in link.libraries)
        if link.stage:
            texts |= {path: text for path, text in made.items() if is_code_of(link.stage, path)}
    texts |= {path: text for path, text in made.items() if path.startswith("tools/")}
    return fingerprint(texts)


def _bake(plan: Plan, templates: Mapping[str, str], made: Mapping[str, str], version: str) -> dict[str, Any]:
    """docker-bake.json: variables, one target an image, one group of all."""
    variables = {
        "SOURCE_DATE_EPOCH": EPOCH,
        "REVISION": "",
        "BASE_DIGEST": plan.base.digest,
        "BAKE_CA": "/dev/null",
        "BAKE_SITE": "/dev/null",
    }
    arguments = arguments_of(plan)
    if arguments:
        variables |= {"ENVIRONMENT": "production", **dict.fromkeys(arguments.values(), "${ENVIRONMENT}")}
    targets = {}
    for image in plan.images:
        licences = sorted({m.licence for m, _ in plan.carried(image)})
        labels = {
            "org.opencontainers.image.title": image.name,
            "org.opencontainers.image.version": plain(version),
            "org.opencontainers.image.revision": "${REVISION}",
            "org.opencontainers.image.licenses": " AND ".join(["Apache-2.0", *map(plain, licences)]),
            "org.opencontainers.image.source": "",
            currency.BASE_NAME: plain(plan.base.reference or f"debian:{plan.base.suite}"),
            currency.BASE_DIGEST: "${BASE_DIGEST}",
            currency.MODE: "docker-gpu" if image.gpu else "docker-cpu",
            currency.VARIANT: plan.variant.value,
            currency.MODELS: ",".join(image.loads),
            assembly.DIGESTS: assembly.digests(plan.carried(image)),
            currency.INPUTS: inputs(plan, templates, made, image),
        }
        if image.stage:
            labels[currency.SCHEMA] = str(JOB_SCHEMA)
            labels[currency.CODE] = code_label(image.stage, code_digest(made, image.stage))
        if own := [arguments[id_] for id_ in image.models]:
            # Null leaves the label out.
            without = " || ".join(f'contains(["no", "development"], {name})' for name in own)
            labels[assembly.BAKED] = "${" + without + ' ? null : "baked"}'
        secrets = ["id=ca,src=${BAKE_CA}", "id=site,src=${BAKE_SITE}"]
        targets[image.name] = {
            "context": ".",
            "dockerfile": "Dockerfile",
            "target": image.name,
            "tags": [image.tag],
            "labels": labels,
            "args": {"SOURCE_DATE_EPOCH": "${SOURCE_DATE_EPOCH}", **{a: f"${{{a}}}" for a in arguments.values()}},
            "secret": [*secrets, *(["id=hf_token,env=HF_TOKEN"] if arguments else [])],
            **({"platforms": [plan.platform.name]} if plan.platform else {}),
        }
    return {
        "variable": {name: {"default": value} for name, value in variables.items()},
        "group": {"default": {"targets": [i.name for i in plan.images]}},
        "target": targets,
    }
