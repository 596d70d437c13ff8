"""The commands about the layout: free what nothing needs, write a complete one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from builder.core.text import format_size, table
from builder.core.weights.model import Pin
from builder.edges.system import files
from builder.errors import MissingError
from builder.workflows.session import Result, Session, layout_of, pinned, store_of


def prune(session: Session, *, dry_run: bool) -> Result:
    """Remove blobs and recipes of images that the engine no longer has, and what killed builds left."""
    from builder.edges.engine import connection as engines
    from builder.edges.images import load

    layout = layout_of(session.config)
    here = None
    if engines.why_not(session.env) is None:
        engine = engines.connect(session.env)
        here = load.tagged(engine, layout)
    with files.locked(layout.lock):
        gone = layout.unneeded(keep=here)
        session.live.close()
        if not dry_run:
            layout.forget(here)
            for path in gone:
                path.path.unlink(missing_ok=True)
    total = sum(g.size for g in gone)
    rows = [(g.what, format_size(g.size), g.path.name[:16]) for g in gone]
    note = "" if here is not None else "\nno engine answers: images were kept, whether it has them or not"
    word = "would free" if dry_run else "freed"
    text = table(("WHAT", "SIZE", "NAME"), rows) + "\n\n" if rows else ""
    return Result(
        data={
            "removed": not dry_run,
            "bytes": total,
            "engine": here is not None,
            "files": [{"path": str(g.path), "what": g.what, "bytes": g.size} for g in gone],
        },
        text=f"{text}{word} {format_size(total)}{note}",
    )


def export(session: Session, out: Path, names: Sequence[str]) -> Result:
    """Write a complete OCI layout of assembled images, with the bytes of their weights."""
    layout = layout_of(session.config)
    with files.locked(layout.lock):
        known = [ref for ref, value in layout.images().items() if "manifest" in value]
        chosen = [
            ref for ref in known if not names or ref in names or ref.rpartition("/")[2].partition(":")[0] in names
        ]
        if lacking := [n for n in names if not any(n in (r, r.rpartition("/")[2].partition(":")[0]) for r in known)]:
            raise MissingError(f"not assembled here: {', '.join(lacking)}", hint="build.py build; build.py images")
        if not chosen:
            raise MissingError(
                "nothing is assembled here", where=str(layout.root), hint="build.py build --mode docker-cpu"
            )
        written = layout.export(out, [layout.image(ref) for ref in chosen], session.on_progress)
    session.live.close()
    return Result(
        data={"folder": str(out), "images": chosen, "bytes": written},
        text=f"{out}: {len(chosen)} images, {format_size(written)}\n"
        f"next: skopeo copy oci:{out}:{chosen[0]} …, or tar -C {out} -c . | docker load",
    )


def lock_digests(session: Session, ids: Sequence[str]) -> Result:
    """Write the digests of models' image layers into models.lock: a build then knows them without a read, and checks them."""
    from builder.core.weights import layers
    from builder.edges.weights import pinning

    config, store, layout = session.config, store_of(session.config), layout_of(session.config)
    pins: dict[str, Pin] = {}
    lines = []
    for model, pin in pinned(session.config, ids):
        fresh = replace(pin, layers=MappingProxyType({}))
        store.require(model, fresh)
        with files.locked(layout.lock):
            made = {layer.name.partition("/")[2]: layout.weights(layer) for layer in layers.layers(model, fresh)}
        digests = {name: layer.blob.digest for name, layer in made.items()}
        pins[model.id] = replace(pin, layers=MappingProxyType(digests))
        change = "unchanged" if dict(pin.layers) == digests else "written"
        lines.append(
            f"{model.id}: {change}, {format_size(sum(m.blob.size for m in made.values()))} in {len(made)} layers"
        )
    pinning.write(config.root, config.home, pins, config.models)
    return Result(data={id_: dict(pins[id_].layers) for id_ in ids}, text="\n".join(lines))
