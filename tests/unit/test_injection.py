"""Strings that a person can configure, filled with what Dockerfiles, bake files, pipelines and shells would act on.

Each is refused by the rule of its own field, or it arrives unchanged in the one place where it belongs.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from builder.core import quoting
from builder.core.config import parse
from builder.core.config.defaults import configure
from builder.core.config.types import BaseSpec
from builder.core.images import ci, plan, reference, render
from builder.core.images.plan import Plan
from builder.core.jobs import compose
from builder.core.terms import Purpose
from builder.core.weights.model import FilePin, HubSource, Model, Pin
from builder.errors import BakeError, ConfigError, UsageError
from tests.golden import project as fixed

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
    "$evil",
    "`evil`",
    "${EVIL}",
    "${{ evil }}",
    "%{if true}evil%{endif}",
    '", "evil": "',
    "x'evil",
    "x\\evil",
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

FEW = ("x\nRUN evil", "x AS evil", "$(evil)", '", "evil": "', "")
"""One of each kind, for what takes long."""

BAKE = """\
presets: {starter: {summary: s, models: {}}}
base:
  kind: KIND
  reference: REFERENCE
  digest: DIGEST
  suite: SUITE
"""
KNOWN = {"kind": "registry", "reference": "python:3.11-slim", "digest": "sha256:" + "ab" * 32, "suite": "bookworm"}
LINES = {key: f"bake.yaml:{number}" for number, key in enumerate(KNOWN, 3)}

IMAGES = {
    "image": ("images/x.yaml", "name: VALUE\nparent: base\nstage: asr\nmodes: [docker-cpu]\n", 1),
    "parent": ("images/asr.yaml", "name: asr\nparent: VALUE\nstage: asr\nmodes: [docker-cpu]\n", 2),
    "stage": ("images/asr.yaml", "name: asr\nparent: base\nstage: VALUE\nmodes: [docker-cpu]\n", 3),
    "image's mode": ("images/asr.yaml", "name: asr\nparent: base\nstage: asr\nmodes: [VALUE]\n", 4),
    "package": ("images/base.yaml", "name: base\nmodes: [docker-cpu]\npackages: [VALUE]\n", 3),
    "debian package": ("images/base.yaml", "name: base\nmodes: [docker-cpu]\ndebian_packages: [VALUE]\n", 3),
}
"""Field -> file, its text, the line of the field."""


def planned(*, model: str = "x", licence: str = "MIT", **base: str) -> Plan:
    """The fixed project with one model, its base spelt in bake.yaml."""
    return with_files({}, model=model, licence=licence, **base)


def with_files(
    files: dict[str, str],
    *,
    locks: dict[str, str] | None = None,
    overrides: dict[str, object] | None = None,
    model: str = "x",
    licence: str = "MIT",
    **base: str,
) -> Plan:
    bake = BAKE
    for key, value in {**KNOWN, **base}.items():
        bake = bake.replace(key.upper(), json.dumps(value))  # YAML reads JSON's strings
    settings = configure(
        parse.read(small() | {"bake.yaml": bake} | files),
        root=fixed.ROOT,
        env={},
        home=None,
        overrides={"mode": "docker-cpu", **(overrides or {})},
    )
    source = HubSource(repo=f"org/{model}")
    known = Model(id=model, purpose=Purpose.ASR, title=model, licence=licence, sources=(source,))
    pin = Pin(revision="0" * 40, files=(FilePin(path="model.bin", size=1, sha256="0" * 64),))
    return plan.plan(settings, locks=locks or fixed.LOCKS, base=settings.base, models=[(known, pin)])


@functools.cache
def small() -> dict[str, str]:
    """The least that has an image of a stage: what is read again for every payload."""
    stages = [f"stages/{name}/stage.yaml" for name in ("asr", "demux", "separate", "vad")]
    return {
        name: fixed.texts()[name] for name in (*stages, "images/base.yaml", "images/base-ml.yaml", "images/demux.yaml")
    } | {"images/asr.yaml": "name: asr\nparent: base\nstage: asr\nmodes: [docker-cpu]\n"}


def files_of(made: Plan, version: str = "1") -> dict[str, str]:
    return render.render(made, fixed.templates(), fixed.CONTEXT, version=version)


@functools.cache
def usual() -> tuple[Plan, dict[str, str]]:
    """What no payload has touched."""
    made = planned()
    return made, files_of(made)


def in_hcl(text: str) -> str:
    """What BuildKit reads in a string of docker-bake.json; a template in it fails the test."""
    assert not re.search(r"(?<!\$)\$\{|(?<!%)%\{", text), f"a template: {text}"
    return text.replace("$${", "${").replace("%%{", "%{")


def refused(
    where: str, attempt: Callable[[str], object], *, payloads: tuple[str, ...] = PAYLOADS, all_but: tuple[str, ...] = ()
) -> None:
    """Every payload ends in the error of the field at ``where``, which shows what was wrong."""
    for payload in (p for p in payloads if p not in all_but):
        with pytest.raises((ConfigError, UsageError)) as caught:
            attempt(payload)
        assert (caught.value.where or "").startswith(where), f"{payload!r} is refused elsewhere: {caught.value}"
        shown = (payload, repr(payload), json.dumps(payload))
        assert any(text in caught.value.what for text in shown), f"{payload!r} isn't named: {caught.value}"


@pytest.mark.parametrize("field", KNOWN)
def test_a_base_is_refused_at_its_line(field: str) -> None:
    """Its values stand in FROM; an empty digest is no pin, an empty reference is asked for."""
    refused(LINES[field], lambda payload: planned(**{field: payload}), all_but=("",))


def test_a_base_without_a_reference_is_refused_and_one_without_a_digest_is_not_pinned() -> None:
    with pytest.raises(ConfigError) as caught:
        planned(reference="")
    assert caught.value.where == LINES["kind"]
    assert "FROM python:3.11-slim AS root" in files_of(planned(digest=""))["Dockerfile"].splitlines()


@pytest.mark.parametrize("field", IMAGES)
def test_a_value_of_an_image_is_refused_at_its_line(field: str) -> None:
    """Names of images, stages and packages stand in FROM, COPY, RUN and in commands."""
    path, text, line = IMAGES[field]
    refused(f"{path}:{line}", lambda payload: with_files({path: text.replace("VALUE", json.dumps(payload))}))


def test_a_file_of_requirements_is_a_path_that_exists() -> None:
    """It is looked up among the locks, and is nothing but a key there."""
    text = "name: base\nmodes: [docker-cpu]\nrequirements: {slim: VALUE}\n"
    for payload in PAYLOADS:
        with pytest.raises(ConfigError) as caught:
            with_files({"images/base.yaml": text.replace("VALUE", json.dumps(payload))})
        named = payload in caught.value.what and caught.value.where == "images/base.yaml:3"
        missing = caught.value.where == payload and "requirements" in caught.value.what
        assert named or missing, f"{payload!r}: {caught.value}"


def test_the_registry_is_refused_as_an_option() -> None:
    """It stands before every tag."""
    refused("--registry", lambda payload: with_files({}, overrides={"registry": payload}))


def test_a_line_of_a_lock_is_refused_where_it_stands() -> None:
    """What pip would read as an option, a URL or a comment isn't a pin."""
    name = "stages/demux/requirements-slim.txt"
    for payload in PAYLOADS:
        with pytest.raises(ConfigError, match="pin") as caught:
            with_files({}, locks={**fixed.LOCKS, name: fixed.pin(payload)})
        assert re.fullmatch(re.escape(name) + r":[12]", caught.value.where or ""), f"{payload!r}: {caught.value}"


def test_a_preset_is_refused_by_name() -> None:
    """It is typed into the commands that a pipeline runs."""

    def read(payload: str) -> None:
        bake = f"presets:\n  starter: {{summary: s, models: {{}}}}\n  {json.dumps(payload)}: {{summary: s, models: {{}}}}\n"
        fixed.read({}, {"bake.yaml": bake, "models.yaml": "models: {}", "models.lock": "models: {}"})

    refused("bake.yaml:3", read)


def test_a_model_is_refused_where_it_would_stand() -> None:
    """The catalogue checks ids already; the Dockerfile doesn't rely on it."""
    refused("", lambda payload: files_of(planned(model=payload)), payloads=FEW)


BROKEN: dict[str, Callable[[Plan, str], Plan]] = {
    "base": lambda made, text: replace(made, base=BaseSpec(kind="registry", reference=text)),
    "digest": lambda made, text: replace(made, base=replace(made.base, digest=text or " ")),
    "name": lambda made, text: replace(made, images=(*made.images, replace(made.images[-1], name=text))),
    "parent": lambda made, text: replace(made, images=(*made.images, replace(made.images[-1], parent=text or " "))),
    "library": lambda made, text: replace(
        made, libraries={**made.libraries, "evil": replace(next(iter(made.libraries.values())), name=text)}
    ),
}


@pytest.mark.parametrize("field", BROKEN)
def test_a_template_refuses_what_a_rule_let_pass(field: str) -> None:
    """The second lock: were a check of the configuration lost, the filters of the templates would still refuse."""
    made, _ = usual()
    for payload in FEW:
        with pytest.raises((BakeError, KeyError)) as caught:
            files_of(BROKEN[field](made, payload))
        if isinstance(caught.value, KeyError):  # no image of that name to look up
            assert caught.value.args == (payload or " ",)
        else:
            assert repr(payload)[1:-1] in caught.value.what, f"{payload!r}: {caught.value}"


def test_licences_and_versions_arrive_in_their_labels_and_nowhere_else() -> None:
    """Any text may be one: BuildKit writes it into the label, byte for byte."""
    made, plain = usual()
    (model, pin), version = made.models[0], "|".join(PAYLOADS)
    licensed = tuple((replace(model, id=f"x{k}", licence=text), pin) for k, text in enumerate(PAYLOADS))
    images = tuple(replace(i, models=tuple(m.id for m, _ in licensed) if i.models else ()) for i in made.images)
    files = files_of(replace(made, models=licensed, images=images), version=version)
    bake, expected = json.loads(files["docker-bake.json"]), json.loads(plain["docker-bake.json"])
    for name, target in bake["target"].items():
        licences = " AND ".join(["Apache-2.0", *(sorted(PAYLOADS) if name == "asr" else [])])
        assert in_hcl(target["labels"]["org.opencontainers.image.licenses"]) == licences
        assert in_hcl(target["labels"]["org.opencontainers.image.version"]) == version
        assert target["labels"].keys() == expected["target"][name]["labels"].keys()
        assert target.keys() == expected["target"][name].keys()
    assert bake.keys() == expected.keys()
    assert "evil" not in files["Dockerfile"].lower()


def test_labels_that_need_no_build_read_back() -> None:
    """``plain_labels`` gives the text that BuildKit would."""
    made, _ = usual()
    for payload in FEW:
        files = files_of(made, version=payload)
        labels = render.plain_labels(files, made.images[0])
        assert labels["org.opencontainers.image.version"] == payload
        assert "org.opencontainers.image.revision" not in labels


def test_a_base_arrives_in_its_label() -> None:
    """The label says what FROM says."""
    _, files = usual()
    assert f"FROM {KNOWN['reference']}@{KNOWN['digest']} AS root" in files["Dockerfile"].splitlines()
    labels = json.loads(files["docker-bake.json"])["target"]["base"]["labels"]
    assert in_hcl(labels["org.opencontainers.image.base.name"]) == KNOWN["reference"]


def dockerfile_value(text: str) -> str:
    """A double-quoted value as BuildKit reads it, with no variable set; what isn't one whole value fails."""
    inner = re.fullmatch(r'"((?:[^"\\$\n]|\\["\\$])*)"', text)
    assert inner, f"more than one value: {text}"
    return re.sub(r'\\(["\\$])', r"\1", inner[1])


def test_a_value_in_quotes_arrives_or_has_control_characters() -> None:
    """ENV has one variable a line, whatever its value is."""
    for payload in PAYLOADS:
        if re.search(r"[\x00-\x1f\x7f]", payload):
            with pytest.raises(ConfigError, match="control characters"):
                quoting.quoted(payload)
        else:
            assert dockerfile_value(quoting.quoted(payload)) == payload


def test_words_of_an_entry_point_arrive() -> None:
    """The exec form is one line of JSON."""
    for payload in PAYLOADS:
        line = quoting.exec_(["python3", payload])
        assert "\n" not in line
        assert json.loads(line) == ["python3", payload]


def test_a_folder_arrives_in_compose() -> None:
    """The folder of the models may have any name that a file system takes."""
    template = (fixed.ROOT / "compose" / compose.TEMPLATE).read_text()
    job, machine = fixed.job("cpu"), fixed.PROJECTS["cpu"]
    images = {s.name: compose.StageImage(id=f"sha256:{k:064x}") for k, s in enumerate(job.stages)}
    services = compose.services(job, images, machine=machine, specs=fixed.read({}).stages, sizes={})
    for payload in ("".join(PAYLOADS), *FEW, "x\\", "$"):
        text = compose.render(template, job, services, machine=machine, models=f"/srv/{payload}")
        mounts = {m["target"]: m for m in yaml.safe_load(text)["x-mounts"]}
        assert fixed.interpolated(mounts["/models"]["source"]) == f"/srv/{payload}"


@pytest.mark.parametrize("service", ci.KINDS)
def test_a_registry_arrives_in_the_pipeline_or_is_refused(service: str) -> None:
    """What ``ci`` accepts is one plain word of YAML."""
    refused("--registry", lambda payload: reference.target(payload, where="--registry"))
    text = pipeline(service, registry="registry.example:5000/speech", command="x", choice="x")
    variables = yaml.safe_load(text)["env" if service == "github" else "variables"]
    assert variables["REGISTRY"] == "registry.example:5000/speech"


@pytest.mark.parametrize("service", ci.KINDS)
def test_a_typed_word_arrives_in_the_pipeline_or_is_refused(service: str) -> None:
    """Its own command, with the name of its file, stands in a comment and in a script."""
    for payload in (*FEW, "${{ evil }}", "x'evil", "# syntax=evil/x", "x\x85RUN evil", "x\u2028RUN evil"):
        words = ["build.py", "ci", service, "--out", payload]
        attempt = functools.partial(pipeline, service, registry=None, command=shlex.join(words), choice="--mode native")
        if re.search(r"[\x00-\x1f\x85\u2028]|\$\{\{", payload):
            with pytest.raises(UsageError, match="can't stand in a pipeline"):
                attempt()
            continue
        parsed = yaml.safe_load(attempt())
        job: dict[str, Any] = parsed["jobs"]["render"] if service == "github" else parsed["render"]
        steps = [step.get("run", "") for step in job["steps"]] if service == "github" else job["script"]
        commands = [line for step in steps for line in step.splitlines() if not line.startswith("#")]
        assert [*words, "--check"] in [shlex.split(line) for line in commands]


def pipeline(service: str, *, registry: str | None, command: str, choice: str) -> str:
    made, _ = usual()
    return ci.pipeline(
        service, made, fixed.templates(), command=command, choice=choice, folder="rendered", registry=registry
    )
