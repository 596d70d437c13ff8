"""The commands about bundles: create, verify, inspect, diff, repair, keys."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import __version__
from builder.core.bundle import plan as core
from builder.core.config.types import Config
from builder.core.jobs import job as spec
from builder.core.jobs import job_file
from builder.core.jobs.request import JobOptions, plan_stages
from builder.core.progress import Progress
from builder.core.terms import Workflow
from builder.core.text import format_size, table
from builder.core.weights.catalog import model_digest
from builder.core.weights.model import Model, Pin
from builder.errors import IntegrityError, UsageError
from builder.receiver.inventory import INVENTORY, SIGNATURE
from builder.workflows import host as hosts
from builder.workflows.images import Choice
from builder.workflows.session import Result, Session, fetch_missing, image_models

if TYPE_CHECKING:
    from builder.core.bundle.plan import BundlePlan, Entry
    from builder.core.images.plan import Plan
    from builder.core.jobs.request import Request
    from builder.edges.bundle.folder import Giver
    from builder.edges.engine.connection import Engine

Models = Sequence[tuple[Model, Pin]]

EXAMPLE = "examples/dialogue.mp4"

LICENCES = "licences/models.md"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the command line asks of a bundle, as it was typed."""

    out: Path
    base: Path | None = None
    part_size: str = "4G"
    code_only: bool = False
    models_only: bool = False
    native: bool = False
    example: bool = True
    """Whether it carries the acceptance run."""
    key: Path | None = None


def create(session: Session, choice: Choice, order: Order) -> Result:
    """Build what is missing, then write what the receiver lacks."""
    from builder.edges.bundle import blobs as packing
    from builder.edges.bundle import folder as bundle
    from builder.edges.bundle import signing
    from builder.edges.images.layout import Layout
    from builder.workflows import images

    config = session.config
    part_size = core.parse_size(order.part_size)
    there = core.have(bundle.read_inventory(order.base)) if order.base else None
    if order.key:
        signing.sign(order.key, b"")  # a key that can't be used is found out before anything is built
    engine, made, _ = images.ensure(session, choice)
    pack = packing.Packing(Layout(config.paths.layout, config.paths.models), config.paths.packed, session.on_progress)
    ready = pack.images(made.plan.images)
    models = list(made.plan.models)
    loose: tuple[core.Layer, ...] = ()
    if order.native:  # of which images carry a part, or none
        wanted = image_models(
            session.config, models=choice.models, languages=choice.languages, diarization=choice.diarization
        )
        fetch_missing(session.config, wanted, env=session.env, on_progress=session.on_progress)
        loose = pack.weights(wanted)
        models += [m for m in wanted if m not in models]
    beside: dict[str, bytes | Path] = {}
    acceptance = None
    if not order.models_only:
        beside |= _licences(config.root, models)
        if order.example and (found := _example(session, choice, made.plan, engine)):
            more, acceptance = found
            beside |= more
        if order.native:
            from builder.edges.bundle import wheelhouse

            beside |= wheelhouse.collect(config, session.env, session.on_progress)
    loader = bundle.loader()
    plan = core.plan(
        ready,
        extras={path: _described(data) for path, data in sorted(beside.items())},
        licences=_described_models(models),
        loader=loader,
        made_by=f"whisperbake {__version__}",
        platform=packing.platform(ready[0]),
        part_size=part_size,
        content=core.MODELS if order.models_only else core.CODE if order.code_only else core.COMPLETE,
        base=there,
        loose=loose,
        acceptance=acceptance,
    )

    def open_(entry: Entry) -> Iterator[bytes]:
        if entry.path.startswith("blobs/"):
            return pack.open(entry.sha256)
        data = beside[entry.path]
        from builder.edges.system import files

        return files.chunks(data) if isinstance(data, Path) else iter([data])

    return _written(session, order, plan, (open_, lambda entry: pack.checks(entry.sha256)), loader)


def _written(session: Session, order: Order, plan: BundlePlan, giver: Giver, loader: bytes) -> Result:
    from builder.edges.bundle import folder as bundle
    from builder.edges.bundle import signing
    from builder.edges.system import files

    there = bundle.is_done(order.out, plan)
    if there:
        raw = (order.out / INVENTORY).read_bytes()
    else:
        open_, checked = giver
        texts = {bundle.LOADER: loader, "README.txt": bundle.README.encode()}
        raw = bundle.create(order.out, plan, open_, checked=checked, texts=texts, on_progress=session.on_progress)
    if order.key:
        files.write_atomic(order.out / SIGNATURE, signing.sign(order.key, raw))
    inventory = json.loads(raw)
    session.live.close()
    data = {
        "folder": str(order.out),
        "state": "up to date" if there else "created",
        "signed": order.key is not None,
        "fingerprint": hashlib.sha256(raw).hexdigest(),
        "parts": inventory["parts"],
        **bundle.summary(inventory),
    }
    return Result(data=data, text=_shown(order.out, inventory, data))


def _shown(folder: Path, inventory: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    lines = [
        f"{folder}: {data['content']}, {format_size(data['bytes'])} in {len(inventory['parts'])} parts"
        f" (weights {format_size(data['weights_bytes'])}, code {format_size(data['code_bytes'])},"
        f" rest {format_size(data['other_bytes'])})"
    ]
    if data["left_out_bytes"]:
        lines.append(f"left out, the receiver has it: {format_size(data['left_out_bytes'])}")
    bound = [m["id"] for m in inventory["models"] if not m["commercial"]]
    if bound:
        lines.append(f"not for commercial use: {', '.join(bound)}")
    oldest, platform = inventory["engine"]["oldest"], inventory["engine"]["platform"]
    lines += [
        f"for Docker Engine {oldest} or later on {platform}; fingerprint {data['fingerprint']}",
        f"next: copy the folder, then there: python3 {bundle_name(folder)}/load.py",
    ]
    return "\n".join(lines)


def bundle_name(folder: Path) -> str:
    """What a copied folder is called."""
    return folder.resolve().name


def _described(data: bytes | Path) -> tuple[int, str]:
    """Size and hex sha256."""
    from builder.edges.system import files

    if isinstance(data, Path):
        return data.stat().st_size, files.sha256(data)
    return len(data), hashlib.sha256(data).hexdigest()


def _described_models(models: Models) -> tuple[core.Licence, ...]:
    return tuple(
        core.Licence(
            id=m.id,
            title=m.title,
            licence=m.licence,
            commercial=m.commercial,
            page=m.page,
            revision=pin.revision,
            size=pin.size,
        )
        for m, pin in models
    )


def _licences(root: Path, models: Models) -> dict[str, bytes | Path]:
    """The licences of the models, and this project's own."""
    rows = [
        f"| {m.id} | {m.title} | {m.licence} | {'yes' if m.commercial else 'no'} | {m.page or m.repo or ''} | {pin.revision} |"
        for m, pin in models
    ]
    head = "| model | what it is | licence | commercial use | page | revision |\n|---|---|---|---|---|---|\n"
    found: dict[str, bytes | Path] = {LICENCES: (head + "\n".join(rows) + "\n").encode()}
    if (root / "LICENSE").is_file():
        found["licences/LICENSE"] = root / "LICENSE"
    return found


def _example(
    session: Session, choice: Choice, plan: Plan, engine: Engine
) -> tuple[dict[str, bytes | Path], Mapping[str, str]] | None:
    """The acceptance run: the example's job, and what these images make of it here, run as the receiver will run it.

    Kept for the same images. None where they are not those of a whole job, or the engine is on another machine.
    """
    from builder.edges.bundle import folder as bundle
    from builder.edges.system import files
    from builder.receiver.engine import Engine as Socket
    from builder.receiver.run import new_job, run_job, spoken

    config = session.config
    recording = config.root / EXAMPLE
    options = JobOptions(models=choice.models, diarization=choice.diarization, threads=2, batch_size=0, device="cpu")
    template = _template(config, hosts.resolve(config, options))
    images = {i.stage: str(engine.client.images.get(i.tag).id) for i in plan.images if i.stage}
    if not recording.is_file() or not engine.host.startswith("unix:"):
        return None
    if {stage["name"] for stage in template["stages"]} - set(images):
        return None
    key = hashlib.sha256(json.dumps([images, template, files.sha256(recording)], sort_keys=True).encode()).hexdigest()
    place = config.paths.acceptance / key[:32]
    paths = {"job": "job/job.json", "expected": "job/expected.json", "recording": f"job/{recording.name}"}
    beside: dict[str, bytes | Path] = {
        paths["job"]: place / "job.json",
        paths["expected"]: place / "expected.json",
        paths["recording"]: recording,
    }
    if (place / "expected.json").is_file():
        return beside, paths
    session.on_progress(Progress(what="example", note="running it, for the receiver to compare with"))
    files.write_json(place / "job.json", template)
    folder = place / f"example-{key[:12]}"

    def tell(line: str) -> None:
        session.on_progress(Progress(what="example", note=line.strip()))

    with bundle.stops(place):
        job = new_job(place / "job.json", recording, recording.name, folder)
        run_job(Socket(engine.host), images, job, folder, tell)
    made = {p.relative_to(folder).as_posix(): files.sha256(p) for p in sorted((folder / "output").iterdir())}
    result = next(p for p in made if p.endswith(".json"))
    words = spoken(json.loads((folder / result).read_bytes()))
    files.write_json(place / "expected.json", {"name": recording.name, "files": made, "result": result, "words": words})
    shutil.rmtree(folder)
    return beside, paths


def _template(config: Config, request: Request) -> Any:
    """The example's job.yaml as data, without what belongs to one run or one recording."""
    import yaml

    note = {
        purpose.value: {"id": model.id, "digest": model_digest(pin), "revision": pin.revision}
        for purpose, (model, pin) in request.models.items()
    }
    stages = plan_stages(config.stages, request, workflow=Workflow.SUBTITLE, models_note=note)
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
    return yaml.safe_load(job_file.to_yaml(job))


def verify(session: Session, folder: Path, *, key: Path | None) -> Result:
    """Read everything once."""
    from builder.edges.bundle import folder as bundle
    from builder.edges.bundle import signing

    opened = bundle.open_bundle(folder)
    if key:
        if not (folder / SIGNATURE).is_file():
            raise IntegrityError("this bundle is not signed", where=str(folder))
        signing.verify(key, opened.raw, (folder / SIGNATURE).read_bytes())
    wrong = bundle.damaged(opened, session.on_progress)
    failure = None
    if wrong:
        failure = IntegrityError(
            f"damaged or missing: {', '.join(wrong)}",
            where=str(folder),
            hint=f"bundle repair {folder} --from ANOTHER-COPY",
        )
    session.live.close()
    return Result(
        data={"folder": str(folder), "fingerprint": opened.fingerprint, "damaged": wrong, "signed": bool(key)},
        text="" if wrong else f"whole: {len(opened.inventory['parts'])} parts, fingerprint {opened.fingerprint}",
        failure=failure,
    )


def inspect(session: Session, path: Path) -> Result:
    """What is in a bundle, or on a receiver. Reads the inventory alone."""
    from builder.edges.bundle import folder as bundle

    inventory = bundle.read_inventory(path)
    session.live.close()
    inside = {f["path"] for f in inventory["files"]}
    rows = []
    for image in inventory["images"]:
        found = [inventory["layers"][x] for x in image["layers"]]
        held = sum(1 for x in image["layers"] if f"blobs/sha256/{x[7:]}" in inside)
        models = dict.fromkeys(x["model"] for x in found if x["model"])
        size = sum(x["size"] for x in found)
        rows.append(
            (image["name"], image["manifest"][7:19], format_size(size), f"{held} of {len(found)}", ", ".join(models))
        )
    text = table(("IMAGE", "MANIFEST", "SIZE", "LAYERS HERE", "MODELS"), rows) if rows else "no images"
    bound = "not for commercial use"
    licences = [(m["id"], m["licence"], "" if m["commercial"] else bound, m["page"] or "") for m in inventory["models"]]
    if licences:
        text += "\n\n" + table(("MODEL", "LICENCE", "", "PAGE"), licences)
    raw = (path / INVENTORY if path.is_dir() else path).read_bytes()
    fingerprint = hashlib.sha256(raw).hexdigest()
    text += (
        f"\n\n{inventory['kind']}, {inventory['content']}, made by {inventory['made_by']}; fingerprint {fingerprint}"
    )
    return Result(data={"fingerprint": fingerprint, **bundle.summary(inventory), "inventory": inventory}, text=text)


def diff(session: Session, first: Path, second: Path) -> Result:
    """What the second bundle or receiver has that the first hasn't."""
    from builder.edges.bundle import folder as bundle

    found = core.compare(bundle.read_inventory(first), bundle.read_inventory(second))
    session.live.close()
    rows = [
        *((what, name, "") for name, what in found.images),
        *(("layer", w, format_size(s)) for _, w, s in found.layers),
    ]
    text = table(("", "WHAT", "SIZE"), rows) if rows else "the same"
    text += f"\n\nnew layers: {format_size(found.size)}" if rows else ""
    return Result(data={**asdict(found), "bytes": found.size}, text=text)


def repair(session: Session, folder: Path, source: Path) -> Result:
    """Bring damaged or missing files from another copy."""
    from builder.edges.bundle import folder as bundle

    if folder.resolve() == source.resolve():
        raise UsageError("a bundle can't be repaired from itself", where=str(source))
    fixed = bundle.repair(folder, source, session.on_progress)
    session.live.close()
    return Result(
        data={"folder": str(folder), "replaced": fixed},
        text=f"replaced: {', '.join(fixed)}" if fixed else "nothing was damaged",
    )


def keys(session: Session, private: Path) -> Result:
    """A new Ed25519 pair."""
    from builder.edges.bundle import signing

    public = private.with_name(f"{private.name}.pub.pem")
    signing.make_keys(private, public)
    session.live.close()
    return Result(
        data={"private": str(private), "public": str(public)},
        text=f"{private}: yours alone (bundle create --sign {private})\n{public}: for receivers, by another way than the bundle",
    )
