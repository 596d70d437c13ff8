"""Whether an image is current: one rule, with the same answer for every command that asks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import pytest

from builder.core.config.types import BaseSpec, Config
from builder.core.images import assembly, currency, estimate
from builder.core.images import plan as planning
from builder.core.images import render as rendering
from builder.core.images.layer_order import arrange
from builder.core.terms import Mode, Variant
from builder.core.weights.model import Model, Pin
from builder.edges.images import build, installed
from builder.edges.images.installed import TaggedImage
from builder.edges.images.rendered import Rendered
from tests.golden import project

Models = list[tuple[Model, Pin]]


def rendered(config: Config, base: BaseSpec, models: Models, files: Mapping[str, str] = project.CONTEXT) -> Rendered:
    """Today's plan of the fixed project."""
    plan = planning.plan(config, locks=project.LOCKS, base=base, models=models)
    made = rendering.render(plan, project.templates(), files, version="1.2.3")
    inputs = {i.name: rendering.inputs(plan, project.templates(), made, i) for i in plan.images}
    order = arrange(estimate.stacks(plan, {}))
    return Rendered(plan=plan, files=made, fingerprints=inputs, order=order, base_digest=base.digest or None)


def labels(made: Rendered, digest: str = "sha256:" + "0" * 64) -> dict[str, dict[str, str]]:
    """The labels that a build gives its images, by tag."""
    return {
        image.tag: {
            **rendering.plain_labels(made.files, image),
            currency.BASE_DIGEST: made.base_digest or digest,
            **assembly.labels(made.order[image.name], made.plan.carried(image)),
        }
        for image in made.plan.images
    }


def settings(**overrides: object) -> Config:
    return project.read({"mode": "docker-cpu", "variant": "slim", **overrides})


def answers(
    config: Config, today: Rendered, found: Mapping[str, Mapping[str, str]], planner: installed.Planner
) -> list[set[str]]:
    """Tags that are not current: as ``build`` decides it, as ``images`` and ``run`` do, and as ``push`` does."""
    rows = [TaggedImage(tag=tag, id="", labels=found[tag], layers=()) for tag in found]
    return [
        {i.tag for i in build.outdated(today, found)},
        {i.tag for i in installed.described(config, rows, planner) if not i.up_to_date},
        {tag for tag in found if installed.differences(config, tag, found[tag], planner)},
    ]


def other_model(models: Models) -> Models:
    """Another model that hears, of the same size."""
    return [(dataclasses.replace(m, id="other") if m.purpose.value == "asr" else m, pin) for m, pin in models]


def other_revision(models: Models) -> Models:
    """The same models, pinned to other bytes."""
    changed = [
        dataclasses.replace(pin, files=(dataclasses.replace(pin.files[0], sha256="7" * 64), *pin.files[1:]))
        for _, pin in models
    ]
    return [(m, new if m.purpose.value == "asr" else pin) for (m, pin), new in zip(models, changed, strict=True)]


ASR, VAD, SUBTITLES = "asr:slim-cpu", "vad:slim-cpu", "subtitles:slim-cpu"


@pytest.mark.parametrize(
    ("models", "files", "changed"),
    [
        (lambda m: m, {}, set()),
        (other_model, {}, {ASR}),
        (other_revision, {}, {ASR}),
        (lambda m: m, {"stages/asr/main.py": "other\n"}, {ASR}),
        (lambda m: [], {}, {ASR, VAD, "align:slim-cpu", "diarize:slim-cpu"}),
    ],
    ids=["nothing", "another model", "another revision", "other code", "no models"],
)
def test_every_command_agrees_on_what_is_current(
    models: Callable[[Models], Models], files: dict[str, str], changed: set[str]
) -> None:
    """After another model is chosen, or code has changed, nobody takes for current what a build would replace."""
    config = settings()
    chosen = project.models(config)
    found = labels(rendered(config, project.DEBIAN, chosen))

    @functools.cache
    def planner(mode: Mode, variant: Variant, base: BaseSpec) -> Rendered:
        assert (mode, variant) == (Mode.DOCKER_CPU, Variant.SLIM)
        return rendered(config, base, models(chosen), {**project.CONTEXT, **files})

    today = planner(Mode.DOCKER_CPU, Variant.SLIM, project.DEBIAN)
    prefix = f"{config.defaults.registry}/"
    assert answers(config, today, found, planner) == [{prefix + tag for tag in changed}] * 3


@pytest.mark.parametrize("pinned", ["sha256:" + "cd" * 32, project.REGISTRY.digest])
def test_another_base_is_seen_by_every_command(pinned: str) -> None:
    """A base that bake.yaml pins is demanded of every image; the same pin again changes nothing."""
    before, after = project.REGISTRY, dataclasses.replace(project.REGISTRY, digest=pinned)
    config = dataclasses.replace(settings(), base=after)
    chosen = project.models(config)
    found = labels(rendered(config, before, chosen))

    @functools.cache
    def planner(mode: Mode, variant: Variant, base: BaseSpec) -> Rendered:
        return rendered(config, base, chosen)

    today = rendered(config, after, chosen)
    assert answers(config, today, found, planner) == [set() if after == before else set(found)] * 3


def test_another_variant_leaves_the_images_of_the_first_current() -> None:
    """A build makes those of the second, under other tags; the first are what their own variant's plan makes."""
    config = settings(variant="full")
    slim = settings()
    found = labels(rendered(slim, project.DEBIAN, project.models(slim)))

    @functools.cache
    def planner(mode: Mode, variant: Variant, base: BaseSpec) -> Rendered:
        return rendered(settings(variant=variant.value), base, project.models(slim))

    today = planner(Mode.DOCKER_CPU, Variant.FULL, project.DEBIAN)
    built, listed, pushed = answers(config, today, found, planner)
    assert built == {i.tag for i in today.plan.images}
    assert not built & set(found)
    assert listed == pushed == set()


@pytest.mark.parametrize("baked", [{assembly.BAKED: "baked"}, {}], ids=["weights inside", "weights mounted"])
def test_an_image_of_a_plain_bake_runs_and_a_build_assembles_it(baked: dict[str, str]) -> None:
    """A site may pull what its pipeline has made with ``docker buildx bake``: it has no order of layers of ours."""
    config = settings()
    chosen = project.models(config)
    today = rendered(config, project.DEBIAN, chosen)
    carrying = {i.tag for i in today.plan.images if today.plan.carried(i)}
    plain = {
        tag: {k: v for k, v in image.items() if k not in currency.ASSEMBLED} | baked
        for tag, image in labels(today).items()
    }

    @functools.cache
    def planner(mode: Mode, variant: Variant, base: BaseSpec) -> Rendered:
        return today

    assert answers(config, today, plain, planner) == [carrying, set(), set()]
    other = {tag: {**image, assembly.DIGESTS: "x=sha256:1"} for tag, image in plain.items()}
    assert answers(config, today, other, planner) == [set(other)] * 3


def test_an_image_that_no_plan_has_is_not_current() -> None:
    """Of a mode, a variant or a stage that the project doesn't have any more."""
    config = settings()

    def planner(mode: Mode, variant: Variant, base: BaseSpec) -> Rendered:
        return rendered(config, base, [])

    made = planner(Mode.DOCKER_CPU, Variant.SLIM, project.DEBIAN)
    known = labels(made)[f"{config.defaults.registry}/{SUBTITLES}"]
    assert installed.differences(config, f"{config.defaults.registry}/{SUBTITLES}", known, planner) == ()
    for other in ({}, {"io.whisperbake.variant": "huge"}, {"io.whisperbake.mode": "podman"}):
        assert installed.differences(config, "x/gone:slim-cpu", {**known, **other}, planner)


def test_a_difference_is_named() -> None:
    """So that a person knows what to look at."""
    image = {currency.INPUTS: "a", currency.BASE_DIGEST: "b", assembly.DIGESTS: ""}
    today = currency.expected(inputs="a", base_digest="b", blocks=(), carried=())
    assert today == image
    assert currency.differences(image, today) == ()
    assert currency.differences({**image, currency.BASE_DIGEST: "c"}, today) == ("base",)
    assert currency.differences({**image, assembly.DIGESTS: "x=sha256:1"}, today) == ("models",)
    assert currency.differences({**image, currency.INPUTS: "z"}, today) == ("code, packages or base",)
    assert currency.differences({}, today) == ("code, packages or base", "base")
    unknown = currency.expected(inputs="a", base_digest=None, blocks=(), carried=())
    assert currency.differences({**image, currency.BASE_DIGEST: "c"}, unknown) == ()


REFERENCE, DIGEST = "docker.io/library/python:3.11-slim", "sha256:" + "9" * 64
DEBIAN_LABELS = {currency.BASE_NAME: "debian:bookworm", currency.BASE_DIGEST: DIGEST}
REGISTRY_LABELS = {currency.BASE_NAME: REFERENCE, currency.BASE_DIGEST: DIGEST}


@pytest.mark.parametrize(
    ("kind", "pinned", "found", "decided"),
    [
        ("debian", "", REGISTRY_LABELS, ("debian", "", "")),
        ("debian", "sha256:1", DEBIAN_LABELS, ("debian", "", "")),
        ("registry", "sha256:1", DEBIAN_LABELS, ("registry", REFERENCE, "sha256:1")),
        ("auto", "sha256:1", DEBIAN_LABELS, ("registry", REFERENCE, "sha256:1")),
        ("auto", "", DEBIAN_LABELS, ("debian", "", "")),
        ("auto", "", REGISTRY_LABELS, ("registry", REFERENCE, DIGEST)),
        ("auto", "", {}, ("debian", "", "")),
        ("registry", "", REGISTRY_LABELS, ("registry", REFERENCE, DIGEST)),
        ("registry", "", {}, ("registry", REFERENCE, "")),
    ],
)
def test_what_bake_yaml_says_of_the_base_wins(
    kind: str, pinned: str, found: dict[str, str], decided: tuple[str, str, str]
) -> None:
    """Only what it leaves open is as the image has it."""
    spec = BaseSpec(kind=kind, reference=REFERENCE, digest=pinned, suite="trixie")
    base = currency.base_of(spec, found)
    assert (base.kind, base.reference, base.digest) == decided
    assert base.suite == "trixie"


def test_without_a_reference_an_open_base_is_debian() -> None:
    assert currency.base_of(BaseSpec(), {}).kind == "debian"
