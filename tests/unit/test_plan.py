"""From images/*.yaml to a plan: what stands on what, what is shared, and what is refused."""

from __future__ import annotations

import functools
import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.config import requirements
from builder.core.config.types import BaseSpec, Config
from builder.core.images import plan, render
from builder.core.terms import Mode, Purpose, Variant
from builder.core.weights.model import FilePin, HubSource, Model, Pin
from builder.errors import BakeError, ConfigError, UsageError
from tests.golden import project as fixed


def planned(mode: Mode = Mode.DOCKER_CPU, variant: Variant = Variant.SLIM, images: tuple[str, ...] = ()) -> plan.Plan:
    settings = fixed.read({"mode": mode.value, "variant": variant.value})
    return plan.plan(settings, locks=fixed.LOCKS, base=fixed.DEBIAN, models=(), images=images)


def names(found: plan.Plan, image: str) -> list[str]:
    """Packages of an image, lowest layer first."""
    chain, current = [], found.image(image)
    while True:
        chain.append([p.name for lib in current.libraries for p in found.libraries[lib].packages])
        if current.parent is None:
            return [name for layer in reversed(chain) for name in layer]
        current = found.image(current.parent)


def test_native_has_the_small_ones() -> None:
    assert [i.name for i in planned(Mode.NATIVE).images] == ["base", "demux", "mux"]


def test_every_stage_has_all_it_needs_once() -> None:
    """What a parent has is not installed again, and nothing is missing."""
    found = planned()
    assert sorted(names(found, "asr")) == ["ctranslate2", "dumb-init", "numpy", "pyyaml"]
    assert sorted(names(found, "vad")) == ["dumb-init", "numpy", "onnxruntime", "pyyaml"]
    assert sorted(names(found, "subtitles")) == ["dumb-init", "pyyaml"]


def test_what_siblings_share_is_one_layer_below_their_own() -> None:
    """So that the engine holds PyTorch once, and a change above it doesn't unpack it again."""
    found = planned(variant=Variant.FULL)
    shared = "align-asr-diarize-torch"
    assert [p.name for p in found.libraries[shared].packages] == ["torch"]
    assert {found.image(n).libraries[0] for n in ("asr", "align", "diarize")} == {shared}
    assert shared not in found.image("vad").libraries


def test_cuda_is_a_layer_of_its_own_and_only_where_a_gpu_helps() -> None:
    found = planned(Mode.DOCKER_GPU)
    assert found.image("asr").libraries == ("asr-cuda", "asr")
    assert found.image("asr").tag == "whisperbake/asr:slim-gpu"
    assert found.image("vad").tag == "whisperbake/vad:slim-cpu"
    assert not [n for n in planned().libraries if "cuda" in n]


def test_some_images_come_with_what_they_stand_on() -> None:
    assert [i.name for i in planned(images=("vad",)).images] == ["base", "base-ml", "vad"]
    assert names(planned(images=("base",)), "base") == names(planned(), "base"), (
        "not another base for building it alone"
    )
    with pytest.raises(UsageError, match="no image"):
        planned(images=("asrr",))
    with pytest.raises(UsageError, match="native has no image asr"):
        planned(Mode.NATIVE, images=("asr",))


def test_two_versions_in_one_chain_are_refused() -> None:
    """Two installs in one folder would mix their files."""
    locks = {**fixed.LOCKS, "stages/vad/requirements-slim.txt": fixed.pin("numpy", "2.0") + fixed.pin("pyyaml")}
    settings = fixed.read({"mode": "docker-cpu"})
    with pytest.raises(ConfigError, match="numpy is pinned in two versions"):
        plan.plan(settings, locks=locks, base=fixed.DEBIAN, models=())


def test_pytorch_of_the_cpu_index_has_locks_of_its_own() -> None:
    """With the setting, docker-cpu's full images leave CUDA out; without these locks the command that makes them is named."""
    path = "stages/asr/requirements-full-cpu.txt"
    stage = fixed.texts()["stages/asr/stage.yaml"].replace("requirements: {", f"requirements: {{full-cpu: {path}, ")
    bake = fixed.texts()["bake.yaml"] + "network: {torch_index_url: 'https://torch.example/cpu'}\n"
    extra = {"stages/asr/stage.yaml": stage, "bake.yaml": bake}
    locks = {
        **fixed.LOCKS,
        "stages/asr/requirements-full.txt": fixed.LOCKS["stages/asr/requirements-full.txt"]
        + fixed.pin("nvidia-cudnn-cu12"),
    }
    settings = fixed.read({"mode": "docker-cpu", "variant": "full"}, extra)
    with pytest.raises(ConfigError) as caught:
        plan.plan(settings, locks=locks, base=fixed.DEBIAN, models=(), images=["asr"])
    assert "full-cpu --torch-index" in str(caught.value.hint)
    locks[path] = fixed.LOCKS["stages/asr/requirements-full.txt"].replace("torch==1.0", "torch==1.0+cpu")

    def asr(config: Config) -> set[str]:
        made = plan.plan(config, locks=locks, base=fixed.DEBIAN, models=(), images=["asr"])
        return {f"{p.name}=={p.version}" for library in made.libraries.values() for p in library.packages}

    assert "torch==1.0+cpu" in asr(settings)
    assert "nvidia-cudnn-cu12==1.0" not in asr(settings)
    assert "nvidia-cudnn-cu12==1.0" in asr(fixed.read({"mode": "docker-gpu", "variant": "full"}, extra))


PINS = st.lists(
    st.tuples(st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,3})?", fullmatch=True), st.integers(1, 3)),
    unique_by=lambda p: p[0],
    max_size=6,
)


@given(PINS)
def test_requirements_read_back_as_they_were_written(pins: list[tuple[str, int]]) -> None:
    """No pin and no hash is lost on the way into the rendered folder."""
    text = "# comment\n" + "".join(fixed.pin(name, f"1.{k}") for name, k in pins)
    read = requirements.parse("a.txt", text)
    assert sorted((p.name, p.version) for p in read) == sorted((n, f"1.{k}") for n, k in pins)
    again = requirements.parse("a.txt", requirements.dump(read))
    assert {(p.name, p.version) for p in again} == {(p.name, p.version) for p in read}
    assert requirements.dump(again) == requirements.dump(read)


@pytest.mark.parametrize(
    "line",
    [
        "numpy==1.0",
        "numpy",
        "numpy>=1 \\\n    --hash=sha256:" + "0" * 64,
        "-r other.txt",
        "--index-url https://evil",
        "git+https://evil/x.git",
        "numpy==1.0 \\\n    --hash=md5:00",
    ],
)
def test_a_requirement_without_its_hash_is_refused(line: str) -> None:
    """Also an option that would make pip look elsewhere. File and line are named."""
    with pytest.raises(ConfigError) as caught:
        requirements.parse("stages/x/requirements-slim.txt", f"{fixed.pin('av')}{line}\n")
    assert caught.value.where == "stages/x/requirements-slim.txt:4"


# Injection

PAYLOADS = (
    "x\nRUN evil",
    "x\r\nRUN evil",
    "x\\\nRUN evil",
    'x"\nRUN evil',
    "x AS evil",
    "x;evil",
    "x&&evil",
    "x|evil",
    "$(evil)",
    "`evil`",
    "${EVIL}",
    "%{if true}evil%{endif}",
    '", "evil": "',
    "x'evil",
    "<<EOF\nevil\nEOF",
    "--mount=type=ssh",
    "../../evil",
    "x\x00evil",
    "x\u2028RUN evil",
    "{{ evil }}",
    "{% include 'evil' %}",
    "# syntax=evil/x",
    " evil",
    "",
)

FIELDS = {
    "registry": "bake.yaml",
    "reference": "bake.yaml",
    "digest": "bake.yaml",
    "suite": "bake.yaml",
    "kind": "bake.yaml",
    "image": "images",
    "package": "images",
    "debian package": "images",
    "requirements": "images",
    "stage": "images",
    "licence": "value",
    "model": "value",
    "version": "value",
    "environment": "value",
    "package pin": "lock",
}


SMALL = "presets: {starter: {summary: s, models: {}}}\n"


def attempt(field: str, payload: str) -> dict[str, str]:
    """Render with ``payload`` in the place of one configurable string."""
    quoted = json.dumps(payload)  # YAML reads JSON's strings
    extra = {"models.yaml": "models: {}", "models.lock": "models: {}", "bake.yaml": SMALL}
    base, locks, version = fixed.REGISTRY, dict(fixed.LOCKS), "1"
    overrides: dict[str, object] = {"mode": "docker-cpu"}
    if field == "registry":
        overrides["registry"] = payload
    elif field in ("reference", "kind", "suite", "digest"):
        known = {"kind": '"registry"', "reference": '"a:1"', field: quoted}
        extra["bake.yaml"] += f"base: {{{', '.join(f'{key}: {value}' for key, value in known.items())}}}\n"
    elif field == "image":
        extra["images/x.yaml"] = f"name: {quoted}\nparent: base\nstage: asr\nmodes: [docker-cpu]\n"
    elif field == "package":
        extra["images/base.yaml"] = f"name: base\nmodes: [docker-cpu]\npackages: [{quoted}]\n"
    elif field == "debian package":
        extra["images/base.yaml"] = f"name: base\nmodes: [docker-cpu]\ndebian_packages: [{quoted}]\n"
    elif field == "requirements":
        extra["images/base.yaml"] = f"name: base\nmodes: [docker-cpu]\nrequirements: {{slim: {quoted}}}\n"
    elif field == "stage":
        extra["images/asr.yaml"] = f"name: asr\nparent: base\nstage: {quoted}\nmodes: [docker-cpu]\n"
    elif field == "package pin":
        locks["stages/demux/requirements-slim.txt"] = fixed.pin(payload)
    settings = fixed.read(overrides, extra)
    if field in ("reference", "digest"):
        base = BaseSpec(kind="registry", reference=settings.base.reference, digest=settings.base.digest)
    name, licence = (payload if field == kind else "x" for kind in ("model", "licence"))
    made = plan.plan(settings, locks=locks, base=base, models=one_model(name, licence))
    if field == "version":
        version = payload
    found = render.render(made, fixed.templates(), fixed.CONTEXT, version=version)
    if field == "environment":
        render.quoted(payload)
    return found


def one_model(name: str, licence: str = "MIT") -> list[tuple[Model, Pin]]:
    """A model of asr, as a catalogue could name it."""
    model = Model(id=name, purpose=Purpose.ASR, title=name, licence=licence, sources=(HubSource(repo=f"org/{name}"),))
    return [(model, Pin(revision="0" * 40, files=(FilePin(path="model.bin", size=1, sha256="0" * 64),)))]


@functools.cache
def plain_render() -> dict[str, str]:
    settings = fixed.read({"mode": "docker-cpu"})
    made = plan.plan(settings, locks=fixed.LOCKS, base=fixed.REGISTRY, models=one_model("x"))
    return render.render(made, fixed.templates(), fixed.CONTEXT, version="1")


def instructions(text: str) -> list[str]:
    """The first word of every instruction, as BuildKit splits them."""
    joined = re.sub(r"\\\n", " ", text)
    return [line.split()[0] for line in joined.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize(("field", "payload"), list(itertools.product(FIELDS, PAYLOADS)))
def test_no_configurable_string_adds_an_instruction(field: str, payload: str) -> None:
    """It is refused, or it is quoted: the Dockerfile's instructions and the bake file's keys stay the same."""
    plain = plain_render()
    try:
        made = attempt(field, payload)
    except BakeError:
        return
    assert instructions(made["Dockerfile"]) == instructions(plain["Dockerfile"])
    assert not [line for line in made["Dockerfile"].splitlines() if line.split()[:1] == ["RUN"] and "evil" in line]
    bake, expected = json.loads(made["docker-bake.json"]), json.loads(plain["docker-bake.json"])
    assert bake.keys() == expected.keys()
    assert {n: t.keys() for n, t in bake["target"].items()} == {n: t.keys() for n, t in expected["target"].items()}
    assert "${EVIL}" not in made["docker-bake.json"].replace("$${EVIL}", "")
    assert "%{if" not in made["docker-bake.json"].replace("%%{if", "")


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=30))
def test_a_quoted_value_ends_where_it_ends(text: str) -> None:
    """Inside the quotes every quote, dollar and backslash is escaped."""
    made = render.quoted(text)
    inner = made[1:-1]
    assert not re.search(r'[\\"$]', re.sub(r'\\[\\"$]', "", inner))
    assert inner.replace('\\"', '"').replace("\\$", "$").replace("\\\\", "\\") == text
