"""The key of an image, ``io.whisperbake.inputs``: what has to change before an image is built again."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from builder.core.config.types import BaseSpec
from builder.core.images import currency, plan, render
from builder.core.terms import LABEL, Mode
from builder.edges.images.rendered import context
from builder.edges.jobs.outcome import code_digest
from tests.golden import project as fixed


@functools.cache
def planned(images: tuple[str, ...] = ()) -> plan.Plan:
    settings = fixed.read({"mode": Mode.DOCKER_CPU.value})
    return plan.plan(settings, locks=fixed.LOCKS, base=fixed.DEBIAN, models=fixed.models(settings), images=images)


def keys(
    made: plan.Plan | None = None,
    templates: dict[str, str] | None = None,
    files: dict[str, str] | None = None,
    version: str = "1",
) -> dict[str, str]:
    """Image -> its key."""
    rendered = render.render(
        made or planned(), templates or fixed.templates(), fixed.CONTEXT | (files or {}), version=version
    )
    targets = json.loads(rendered["docker-bake.json"])["target"]
    return {name: target["labels"][f"{LABEL}inputs"] for name, target in targets.items()}


@functools.cache
def before() -> dict[str, str]:
    return keys()


def changed(after: dict[str, str]) -> set[str]:
    assert after.keys() == before().keys()
    return {name for name, key in after.items() if key != before()[name]}


@pytest.mark.parametrize("name", sorted(n for n in fixed.templates() if n.startswith("blocks/")))
def test_a_block_of_the_dockerfile_makes_every_image_again(name: str) -> None:
    """It is what images are made by."""
    templates = {**fixed.templates(), name: fixed.templates()[name] + "# changed\n"}
    assert changed(keys(templates=templates)) == set(before())


def test_the_frame_of_the_dockerfile_and_a_version_make_none_again() -> None:
    """A comment at the top, a pipeline or a new version of this project aren't in an image."""
    templates = {n: text + ("" if n.startswith("blocks/") else "# changed\n") for n, text in fixed.templates().items()}
    assert changed(keys(templates=templates, version="2")) == set()


def test_code_makes_its_own_image_again_and_the_contract_every_stage() -> None:
    assert changed(keys(files={"stages/asr/main.py": "new\n"})) == {"asr"}
    stages = {i.name for i in planned().images if i.stage}
    assert changed(keys(files={"stages/contract.py": "new\n"})) == stages
    assert stages < set(before())


def test_tools_of_the_build_make_every_image_again() -> None:
    assert changed(keys(files={"tools/steps.py": "new\n"})) == set(before())


def test_a_base_and_its_packages_make_every_image_again() -> None:
    assert changed(keys(replace(planned(), debian_packages=("another",)))) == set(before())
    assert changed(keys(replace(planned(), base=BaseSpec(kind="debian", suite="trixie")))) == set(before())


def test_a_library_makes_again_what_stands_on_it() -> None:
    """Every image that has it, or whose parent has it."""
    library = planned().image("asr").libraries[-1]
    made = planned()
    packages = tuple(
        replace(p, version="9.9", text=p.text.replace("==", "==9.")) for p in made.libraries[library].packages
    )
    libraries = {**made.libraries, library: replace(made.libraries[library], packages=packages)}
    users = {
        image.name
        for image in made.images
        if any(library in one.libraries for one in (image, *(made.image(p) for p in parents(image.name))))
    }
    assert changed(keys(replace(made, libraries=libraries))) == users


def parents(name: str) -> list[str]:
    parent = planned().image(name).parent
    return [parent, *parents(parent)] if parent else []


def test_the_code_in_an_image_is_told_as_the_code_of_the_project_is() -> None:
    """An image is found by it: of the same files, the rendered folder and the project's folder give one digest."""
    root = Path(__file__).resolve().parents[2]
    every = fixed.read({"mode": "docker-cpu"}).images
    stages = sorted(spec.stage for spec in every.values() if spec.stage)
    files = render.render(planned(images=tuple(every)), fixed.templates(), fixed.CONTEXT | context(root), version="1")
    targets = json.loads(files["docker-bake.json"])["target"]
    assert len(stages) > 5
    for stage in stages:
        assert targets[stage]["labels"][currency.CODE] == f"{stage}:" + code_digest(root / "stages", stage)
