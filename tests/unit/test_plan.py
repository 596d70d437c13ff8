"""From images/*.yaml to a plan: what stands on what, what is shared, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core import quoting
from builder.core.config import requirements
from builder.core.config.types import Config
from builder.core.images import plan
from builder.core.terms import Mode, Variant
from builder.edges.images.rendered import rendered
from builder.edges.machine import project
from builder.errors import ConfigError, UsageError
from builder.workflows.host import with_extras
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
    assert [i.name for i in planned(Mode.NATIVE).images] == ["base", "base-ml", "demux", "mux"]


def test_extra_images_are_built_where_they_are_asked_for() -> None:
    """Whoever doesn't translate builds no image for it; what a layer holds doesn't depend on that."""
    usual, root = planned(), Path(__file__).resolve().parents[2]
    assert "translate" not in [i.name for i in usual.images]
    assert "translate" in [i.name for i in planned(images=("translate",)).images]
    config = project.load(root, env={"BAKE_EXTRAS": "translate"}, overrides={"mode": "docker-cpu"})
    assert "translate" in [i.name for i in rendered(config, fixed.DEBIAN, models=()).plan.images]
    assert usual.image("asr") == planned(images=("asr", "translate")).image("asr")
    alone = rendered(project.load(root, env={}, overrides={"mode": "docker-cpu"}), fixed.DEBIAN, (), ["translate"])
    assert alone.order["translate"][-1].name == "code translate", "named, and no job has it yet"
    assert with_extras(config, ["asr", "names"]).defaults.extras == ("names", "translate"), "a job's own, and those"
    with pytest.raises(UsageError, match="not an extra image"):
        project.load(root, env={"BAKE_EXTRAS": "asr"}, overrides={})


def test_every_stage_has_all_it_needs_once() -> None:
    """What a parent has is not installed again, and nothing is missing."""
    found = planned()
    assert sorted(names(found, "asr")) == ["ctranslate2", "dumb-init", "numpy", "pyyaml"]
    assert sorted(names(found, "vad")) == ["dumb-init", "numpy", "onnxruntime", "pyyaml"]
    assert sorted(names(found, "subtitles")) == ["dumb-init", "pyyaml"]


def test_an_engine_is_in_the_image_that_is_built_for_its_model() -> None:
    """ONNX Runtime is half as large as all of asr: an image for other models does without it."""
    config = project.load(Path(__file__).resolve().parents[2], env={}, overrides={"mode": "docker-cpu"})

    def asr(model: str) -> list[str]:
        return names(rendered(config, fixed.DEBIAN, models=[(config.models[model], config.pins[model])]).plan, "asr")

    for model in ("parakeet-tdt-0.6b-v3", "canary-180m-flash", "gigaam-v3-rnnt"):
        assert {"onnx-asr", "onnxruntime"} <= set(asr(model))
    assert not {"onnx-asr", "onnxruntime"} & set(asr("base"))


def test_what_siblings_share_is_one_layer_below_their_own() -> None:
    """So that the engine holds PyTorch once, and a change above it doesn't unpack it again."""
    found = planned(variant=Variant.FULL)
    shared = "align-asr-diarize-torch"
    assert [p.name for p in found.libraries[shared].packages] == ["torch"]
    assert {found.image(n).libraries[0] for n in ("asr", "align", "diarize")} == {shared}
    assert shared not in found.image("vad").libraries


def test_cuda_is_a_layer_of_its_own_and_only_where_a_gpu_helps() -> None:
    found = planned(Mode.DOCKER_GPU)
    assert found.image("asr").libraries == ("asr-translate", "asr-cuda")
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


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("mode", Mode)
def test_the_locks_of_the_stages_agree(mode: Mode, variant: Variant) -> None:
    """A lock that was written without those of the other stages may have another version: no image could be built."""
    config = project.load(Path(__file__).resolve().parents[2], env={}, overrides={"mode": mode, "variant": variant})
    made = rendered(config, fixed.DEBIAN, models=())
    assert made.plan.libraries


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
    assert "requirements/stages.py full-cpu" in str(caught.value.hint)
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


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=30))
def test_a_quoted_value_ends_where_it_ends(text: str) -> None:
    """Inside the quotes every quote, dollar and backslash is escaped."""
    made = quoting.quoted(text)
    inner = made[1:-1]
    assert not re.search(r'[\\"$]', re.sub(r'\\[\\"$]', "", inner))
    assert inner.replace('\\"', '"').replace("\\$", "$").replace("\\\\", "\\") == text
