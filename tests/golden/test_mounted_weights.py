"""Weights from an image of their own: what is planned, and how compose, podman and Kubernetes spell the mount."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.core.batch import rendering, steps
from builder.core.config.defaults import MOUNTED
from builder.core.images import currency, plan, render
from builder.core.images.plan import Plan
from builder.core.images.weights import image as weights
from builder.core.jobs import compose
from builder.core.terms import Mode, Variant
from builder.edges.engine import needs
from builder.errors import MissingError, UsageError
from tests.golden import batches
from tests.golden import project as fixed
from tests.golden.project import HOSTILE, PROJECTS, ROOT, job, read

VARIABLES = {"BAKE_MODELS", "HF_HOME", "HF_HUB_CACHE", "NLTK_DATA", "TORCH_HOME"}


def planned(where: str, mode: Mode = Mode.DOCKER_CPU, variant: Variant = Variant.SLIM) -> Plan:
    settings = read({"mode": mode.value, "variant": variant.value, "weights": where})
    return plan.plan(settings, locks=fixed.LOCKS, base=fixed.DEBIAN, models=fixed.models(settings))


def files(found: Plan) -> dict[str, str]:
    return render.render(found, fixed.templates(), fixed.CONTEXT, version="1.2.3")


def test_images_without_weights_have_the_same_code() -> None:
    """No model in them, none fetched for them, the same fingerprint of the code: a build only puts layers together anew."""
    baked, mounted = planned("baked"), planned(MOUNTED)
    asr = mounted.image("asr")
    assert mounted.carried(asr) == ()
    assert mounted.loaded(asr) == baked.carried(baked.image("asr")) != ()
    made = files(mounted)
    assert "model-" not in made["Dockerfile"]
    assert not [path for path in made if path.startswith("weights/")]
    for image in baked.images:
        known = [render.inputs(p, fixed.templates(), files(p), p.image(image.name)) for p in (baked, mounted)]
        assert known[0] == known[1], f"the code of {image.name} is built anew"
    today = currency.expected(inputs="x", base_digest=None, blocks=(), carried=mounted.carried(asr))
    old = currency.expected(inputs="x", base_digest=None, blocks=(), carried=baked.carried(baked.image("asr")))
    assert currency.differences(old, today) == ("models",), "an image with weights is taken for one without"
    assert currency.differences(today, old) != ()


def test_the_weights_image_has_every_model_of_the_plan() -> None:
    """Whether images carry them or not: one image, so one digest."""
    baked, mounted = planned("baked"), planned(MOUNTED)
    assert weights.carried(baked) == weights.carried(mounted) == mounted.mounted
    assert weights.layers(weights.carried(baked)) == weights.layers(weights.carried(mounted))


@pytest.mark.parametrize(
    ("mode", "variant", "tag"),
    [
        (Mode.DOCKER_CPU, Variant.SLIM, "starter"),
        (Mode.DOCKER_GPU, Variant.SLIM, "starter-gpu"),
        (Mode.DOCKER_CPU, Variant.FULL, "starter-full"),
    ],
)
def test_a_tag_says_whose_models_they_are(mode: Mode, variant: Variant, tag: str) -> None:
    """A GPU and the full variant have others: one tag doesn't stand for both."""
    assert weights.tag(["starter"], planned("baked", mode, variant)) == tag
    assert weights.tag(["a", "b"], planned("baked", mode, variant)) == tag.replace("starter", "a-b")
    with pytest.raises(UsageError):
        weights.tag(["x" * 200], planned("baked", mode, variant))


def composed(inside: tuple[str, ...]) -> str:
    """compose.yaml of a job whose images carry nothing, with a weights image that has models by digest."""
    settings, machine, made = read({}), PROJECTS["cpu"], job("cpu")
    images = {s.name: compose.StageImage(id=f"sha256:{k:064x}") for k, s in enumerate(made.stages)}
    image = compose.StageImage(id=f"sha256:{'e' * 64}", models=inside)
    sizes = {i: p.size for i, p in settings.pins.items()}
    services = compose.services(made, images, machine=machine, specs=settings.stages, sizes=sizes, weights=image)
    template = (ROOT / "compose" / compose.TEMPLATE).read_text()
    return compose.render(template, made, services, machine=machine, models=HOSTILE, weights=image)


def digests() -> tuple[str, ...]:
    return tuple(use.digest for stage in job("cpu").stages for use in stage.models.values())


def test_compose_mounts_the_image_where_a_stage_loads_models() -> None:
    """By id, read-only, with variables that lead there; no other stage sees it, and the tree of this machine is not mounted."""
    found: dict[str, Any] = yaml.safe_load(composed(digests()))
    loading = {stage.name for stage in job("cpu").stages if stage.models}
    assert loading == {"vad", "asr", "diarize", "align"}
    for name, service in found["services"].items():
        mounts = {m["target"]: m for m in service["volumes"]}
        assert "/models" not in mounts
        assert (weights.MOUNTED in mounts) == (name in loading)
        if name in loading:
            mount = {"type": "image", "source": f"sha256:{'e' * 64}", "target": "/weights", "read_only": True}
            assert mounts[weights.MOUNTED] == mount
            assert {k for k, v in service["environment"].items() if v.startswith("/weights/models")} == VARIABLES
        else:
            assert not VARIABLES & set(service["environment"])


def test_a_model_that_the_image_lacks_comes_from_this_machine() -> None:
    """That stage alone gets the tree of weights."""
    asr = next(iter(next(s for s in job("cpu").stages if s.name == "asr").models.values())).digest
    found = yaml.safe_load(composed(tuple(d for d in digests() if d != asr)))
    trees = {n for n, s in found["services"].items() if "/models" in {m["target"] for m in s["volumes"]}}
    assert trees == {"asr"}


def test_podman_mounts_the_image_where_a_stage_loads_models() -> None:
    """By digest. It is read-only unless podman is told ``rw``, and ``ro`` is no option of such a mount."""
    template = batches.template()
    stages = rendering.stages_of(template)
    found = steps.podman(stages, images=batches.images(template), pull=True, models="", weights=batches.WEIGHTS)
    for stage, step in zip(stages, found, strict=True):
        mounts = [word for word in step["argv"] if word.startswith("type=image")]
        assert mounts == ([f"type=image,source={batches.WEIGHTS},destination=/weights"] if stage.models else [])
        variables = {word.partition("=")[0] for word in step["argv"] if "=/weights/models" in word}
        assert variables == (VARIABLES if stage.models else set())
        assert step["argv"][step["argv"].index("--network") + 1] == "none"


INFO = {"ServerVersion": "28.0.0", "ClientInfo": {"Plugins": [{"Name": "compose", "Version": "v2.35.0"}]}}


def test_an_engine_that_mounts_no_image_is_told_of() -> None:
    """What Debian 13 has, and each half of it; the message says what would do."""
    needs.image_mounts(INFO, "unix:///x")
    old = {"Plugins": [{"Name": "compose", "Version": "2.26.1-4"}]}
    for info, what in (
        ({**INFO, "ServerVersion": "26.1.5+dfsg1"}, "the engine is 26.1.5"),
        ({**INFO, "ClientInfo": old}, "compose is 2.26.1"),
    ):
        with pytest.raises(MissingError, match=what) as raised:
            needs.image_mounts(info, "unix:///x")
        assert "--weights baked" in (raised.value.hint or "")


def test_compose_reads_what_is_meant(tmp_path: Path) -> None:
    """Also one that can't do it yet: its parser knows no list of kinds, and the engine refuses the mount."""
    if shutil.which("docker") is None:
        pytest.skip("no docker client on this machine")
    (tmp_path / "compose.yaml").write_text(composed(digests()))
    words = ["docker", "compose", "--project-directory", str(tmp_path), "config", "--format", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "compose" in done.stderr and "not a docker command" in done.stderr:
        pytest.skip("no compose on this machine")
    assert done.returncode == 0, done.stderr
    (mount,) = (m for m in json.loads(done.stdout)["services"]["asr"]["volumes"] if m["type"] == "image")
    assert mount == {"type": "image", "source": f"sha256:{'e' * 64}", "target": "/weights", "read_only": True}


def test_jobs_of_the_same_stages_name_no_mount_where_weights_are_baked() -> None:
    """Without a weights image nothing changes in a compose file."""
    made = job("cpu")
    images = {s.name: compose.StageImage(id="sha256:0", models=digests()) for s in made.stages}
    services = compose.services(made, images, machine=PROJECTS["cpu"], specs={}, sizes={}, weights=None)
    assert all(compose.WEIGHTS not in s.mounts and not s.variables for s in services)
