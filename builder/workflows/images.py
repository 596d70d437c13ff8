"""The commands about images: plan, render, build, list."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.core.images import layer_order as ordering
from builder.core.terms import Mode, Variant
from builder.core.text import format_size, format_time, table
from builder.errors import BakeError
from builder.workflows.session import Result, Session, fetch_missing, image_models

if TYPE_CHECKING:
    from builder.core.config.types import BaseSpec, Config
    from builder.core.images.plan import Library
    from builder.edges.engine.connection import Engine
    from builder.edges.images.build import Built
    from builder.edges.images.installed import InstalledImage, Planner
    from builder.edges.images.rendered import Rendered


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the command line asks of images, as it was typed."""

    models: str | None = None
    languages: str | None = None
    diarization: bool = True
    names: Sequence[str] = ()
    """Images; none: all of the mode."""


ALL = Choice()


def rendered(session: Session, choice: Choice = ALL, *, engine: Engine | None = None) -> Rendered:
    """The plan of the session's mode and variant, with its files."""
    from builder.edges.images import base as bases
    from builder.edges.images import rendered as images

    config = session.config
    base = bases.decide_base(config, session.env, session.on_progress, engine)
    diarization = choice.diarization and config.defaults.diarization
    models = image_models(session.config, models=choice.models, languages=choice.languages, diarization=diarization)
    names = choice.names
    if not diarization and not names:
        names = [n for n, i in config.images.items() if config.defaults.mode in i.modes and i.stage != "diarize"]
    return images.rendered(config, base, models, names)


def plan(session: Session, choice: Choice) -> Result:
    """What would be built: images, their layers in order, models, estimated sizes. Touches no engine."""
    from builder.edges.images import rendered as images

    planned = rendered(session, choice)
    made = planned.plan
    known = images.sizes(session.config)
    libraries = {library.name: _estimates(library, known) for library in made.libraries.values()}
    below: dict[str | None, tuple[int, bool]] = {None: (known.get("base==root", 0), "base==root" in known)}
    data: list[dict[str, Any]] = []
    rows = []
    for image in made.images:
        found = [size for name in image.libraries for size in libraries[name]]
        total, whole = below[image.parent]
        below[image.name] = (total + sum(s or 0 for s in found), whole and None not in found)
        estimate, certain = below[image.name]
        data.append(
            {
                "name": image.name,
                "tag": image.tag,
                "parent": image.parent,
                "stage": image.stage,
                "gpu": image.gpu,
                "layers": [
                    {
                        "name": n,
                        "packages": [f"{p.name}=={p.version}" for p in made.libraries[n].packages],
                        "estimated_bytes": sum(s or 0 for s in libraries[n]),
                    }
                    for n in image.libraries
                ],
                "models": list(image.models),
                "estimated_bytes": estimate,
                "estimate_complete": certain,
                "order": [{"name": b.name, "kind": b.kind, "bytes": b.size} for b in planned.order[image.name]],
            }
        )
        rows.append(
            (
                image.tag,
                image.parent or made.base.kind,
                ("" if certain else "≥ ") + format_size(estimate),
                ", ".join(image.libraries),
                ", ".join(image.models),
            )
        )
    weights = sum(pin.size for _, pin in made.models)
    unique = below[None][0] + sum(s or 0 for found in libraries.values() for s in found)
    base = made.base.reference if made.base.kind == "registry" else f"Debian {made.base.suite}'s packages"
    text = table(("IMAGE", "ON", "SIZE", "LAYERS", "MODELS"), rows) + (
        f"\n\nbase: {base}\nall images together: {format_size(unique)} of layers, {format_size(weights)} of models"
        f"\n\n{_order(planned)}"
    )
    summary = {
        "mode": made.mode.value,
        "variant": made.variant.value,
        "base": asdict(made.base),
        "images": data,
        "models": [{"id": m.id, "purpose": m.purpose.value, "bytes": pin.size} for m, pin in made.models],
        "estimated_unique_bytes": unique,
        "model_bytes": weights,
        "unpacked_again": _again(planned),
    }
    return Result(data=summary, text=text)


def _again(planned: Rendered) -> dict[str, int]:
    """Bytes that an engine unpacks again when one block of the images changes, by the block's name."""
    order = {i.name: planned.order[i.name] for i in planned.plan.images}
    names = dict.fromkeys(b.name for blocks in order.values() for b in blocks)
    return {name: ordering.again(order, name) for name in names}


def _order(planned: Rendered) -> str:
    """The layers of every image from below, and what a change costs."""
    rows = [
        (i.name, "  ".join(f"{b.name.removeprefix('libraries ')} {format_size(b.size)}" for b in planned.order[i.name]))
        for i in planned.plan.images
    ]
    again = sorted(_again(planned).items(), key=lambda item: item[1])
    changes = [(name, format_size(size)) for name, size in again]
    return table(("IMAGE", "LAYERS, LOWEST FIRST"), rows) + "\n\n" + table(("A CHANGE OF", "UNPACKS AGAIN"), changes)


def _estimates(library: Library, known: Mapping[str, int]) -> list[int | None]:
    """Unpacked bytes of each package; a lock names several versions of one where machines differ."""
    found: dict[str, int | None] = {}
    for pin in library.packages:
        found[pin.name] = known.get(f"{pin.name}=={pin.version}") or found.get(pin.name)
    return list(found.values())


def render(session: Session, choice: Choice, *, out: Path | None, check: bool) -> Result:
    """Write the Dockerfile, docker-bake.json and what they need; or compare."""
    from builder.edges.images import rendered as images

    made = rendered(session, choice)
    folder = out or images.folder_of(session.config)
    if check:
        other = images.differences(folder, made.files)
        failure = None
        if other:
            failure = Different(
                f"{len(other)} files differ from what is rendered",
                where=str(folder),
                detail=other[:20],
                hint=f"build.py render --out {folder}",
            )
        return Result(
            data={"folder": str(folder), "differences": other}, text="" if other else "as rendered", failure=failure
        )
    root = images.root_of(session.config, made.plan, session.env, session.on_progress)
    images.write(folder, made.files, root)
    session.live.close()
    names = sorted([*made.files, *(["rootfs.tar"] if root else [])])
    return Result(
        data={"folder": str(folder), "files": names},
        text=f"{folder}: {len(names)} files\nnext: cd {folder} && docker buildx bake    (README.md, Images)",
    )


class Different(BakeError):
    """``render --check`` found other files: exit 1, as a linter does."""

    exit_code = 1


def ensure(
    session: Session, choice: Choice = ALL, *, cache: bool = True, refresh: bool = False
) -> tuple[Engine, Rendered, tuple[Built, ...]]:
    """Build the images of the session's mode that are missing or not up to date, with their weights."""
    from builder.edges.engine import connection as engines
    from builder.edges.images import build as baking
    from builder.edges.images import rendered as images
    from builder.edges.images.rootfs import digest

    engine = engines.connect(session.env)
    made = rendered(session, choice, engine=engine)
    fetch_missing(session.config, made.plan.models, env=session.env, on_progress=session.on_progress)
    baking.require_space(session.config, made.plan, engine)
    root = images.root_of(session.config, made.plan, session.env, session.on_progress, refresh=refresh)
    if root:
        made = replace(made, base_digest=digest(root))
    folder = images.folder_of(session.config)
    from builder.edges.system import files

    with files.locked(folder.with_suffix(".lock")):
        images.write(folder, made.files, root)
        built = baking.build(
            session.config,
            made,
            folder,
            engine,
            env=session.env,
            on_progress=session.on_progress,
            cache=cache,
        )
    return engine, made, built


def build(session: Session, choice: Choice, *, cache: bool, refresh: bool) -> Result:
    """Build images, and a table of what there is now."""
    from builder.edges.images import installed

    engine, made, built = ensure(session, choice, cache=cache, refresh=refresh)
    found = {h.tag: h for h in here(session, engine, choice)}
    unique = installed.unique_bytes(engine, [b.tag for b in built])
    session.live.close()
    rows, data = [], []
    for b in built:
        h = found[b.tag]
        rows.append(
            (
                b.tag,
                format_size(h.size_bytes),
                format_size(h.shared_bytes),
                format_size(h.own_bytes),
                format_time(b.seconds),
                b.state,
            )
        )
        data.append({**_installed(h), "state": b.state, "seconds": b.seconds, "sent_bytes": b.sent})
    text = table(("IMAGE", "SIZE", "SHARED", "OWN", "TIME", "STATE"), rows)
    return Result(
        data={
            "mode": made.plan.mode.value,
            "variant": made.plan.variant.value,
            "base": asdict(made.plan.base),
            "images": data,
            "unique_bytes": unique,
        },
        text=f"{text}\n\nall together: {format_size(unique)} unpacked, each layer counted once",
    )


def _installed(image: InstalledImage) -> dict[str, Any]:
    data = asdict(image)
    del data["differences"]
    return {**data, "up_to_date": image.up_to_date}


def listing(session: Session) -> Result:
    """The images here."""
    from builder.edges.engine import connection as engines

    engine = engines.connect(session.env)
    found = here(session, engine)
    rows = [
        (
            h.tag,
            h.id.removeprefix("sha256:")[:12],
            format_size(h.size_bytes),
            format_size(h.shared_bytes),
            format_size(h.own_bytes),
            ", ".join(h.models),
            "baked" if h.baked else "mounted" if h.models else "",
            "yes" if h.up_to_date else "no",
        )
        for h in found
    ]
    head = ("IMAGE", "ID", "SIZE", "SHARED", "OWN", "MODELS", "WEIGHTS", "UP TO DATE")
    return Result(data=[_installed(h) for h in found], text=table(head, rows) if rows else "no images here")


def here(session: Session, engine: Engine, choice: Choice = ALL) -> tuple[InstalledImage, ...]:
    """Our images on an engine, compared with what today's files and this choice would make of them."""
    from builder.edges.images import installed

    return installed.listing(session.config, engine, planner(session.config, choice))


def planner(config: Config, choice: Choice = ALL) -> Planner:
    """Today's plans of all images of a mode, for the rule of what is current (:mod:`builder.core.images.currency`)."""
    from builder.edges.images import rendered as images

    @functools.cache
    def planned(mode: Mode, variant: Variant, base: BaseSpec) -> Rendered:
        defaults = replace(config.defaults, mode=mode, variant=variant)
        today = replace(config, defaults=defaults)
        try:
            models = image_models(
                today,
                models=choice.models,
                languages=choice.languages,
                diarization=choice.diarization and defaults.diarization,
            )
        except BakeError:  # a preset that this variant can't load
            models = ()
        return images.rendered(today, base, models)

    return planned
