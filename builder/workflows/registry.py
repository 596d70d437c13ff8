"""The commands about registries: push, ci."""

from __future__ import annotations

import shlex
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.core.progress import Progress
from builder.core.text import format_size, format_time, table
from builder.errors import BakeError, MissingError, UsageError
from builder.workflows.images import Choice, Different, planner, rendered
from builder.workflows.session import Result, Session

if TYPE_CHECKING:
    from builder.core.images.oci import Descriptor
    from builder.edges.images.layout import Layout
    from builder.edges.registry.push import Image, Step


def push(session: Session, choice: Choice, *, registry: str | None, dry_run: bool) -> Result:
    """Send images of the layout to a registry that lacks them."""
    from builder.core.images import reference
    from builder.edges.engine import connection as engines
    from builder.edges.images import site as network
    from builder.edges.registry import credentials
    from builder.edges.registry import http as registry_http
    from builder.edges.registry import push as pushing
    from builder.edges.registry.blobs import Registry

    config, began = session.config, time.monotonic()
    where = reference.target(
        registry or config.defaults.registry, where="--registry" if registry else "bake.yaml: defaults.registry"
    )
    chosen, others = _images(session, choice)
    stop = registry_http.Stop()
    http = registry_http.connect(
        where,
        login=credentials.find(where.keys, session.env),
        authorities=network.find(config.network, session.env).authorities,
        insecure=lambda: engines.insecure(where.host, session.env),
        stop=stop,
    )
    folder = config.paths.uploads
    server = Registry(http, folder)
    if dry_run:
        steps = pushing.decide(chosen, server, where, others=others, on_progress=session.on_progress)
        done = [(step, step.send_bytes) for step in steps]
    else:
        lock = folder / f"{where.host.replace(':', '_')}.lock"
        with _alone(session, lock, where.host):
            steps = pushing.decide(chosen, server, where, others=others, on_progress=session.on_progress)
            done = list(
                pushing.carry_out(
                    steps, server, open_=_layout(session).open, stop=stop, on_progress=session.on_progress
                )
            )
    session.live.close()
    data: dict[str, Any] = {
        "registry": f"{where.host}/{where.prefix}".rstrip("/"),
        "dry_run": dry_run,
        "images": [_row(where.host, step, sent, dry_run) for step, sent in done],
        "sent_bytes": sum(sent for _, sent in done),
        "mounted_bytes": sum(s.mount_bytes for s, _ in done),
        "on_the_wire_bytes": http.sent,
        "seconds": round(time.monotonic() - began, 1),
    }
    rows = [
        (
            i["reference"],
            i["digest"].removeprefix("sha256:")[:12],
            format_size(i["bytes"]),
            format_size(i["sent_bytes"]),
            format_size(i["mounted_bytes"]),
            i["state"],
        )
        for i in data["images"]
    ]
    verb = "would be sent" if dry_run else f"sent in {format_time(data['seconds'])}"
    text = table(("IMAGE", "DIGEST", "SIZE", "SENT", "MOUNTED", "STATE"), rows)
    return Result(data=data, text=f"{text}\n\n{format_size(data['sent_bytes'])} {verb}")


def _row(host: str, step: Step, sent: int, dry_run: bool) -> dict[str, Any]:
    image = step.image
    return {
        "name": image.name,
        "reference": f"{host}/{step.repository}:{image.tag}",
        "digest": image.manifest.digest,
        "bytes": sum(b.size for b in dict.fromkeys(image.blobs)),
        "sent_bytes": sent,
        "mounted_bytes": step.mount_bytes,
        "state": "up to date" if step.there else "would be pushed" if dry_run else "pushed",
    }


def _layout(session: Session) -> Layout:
    from builder.edges.images.layout import Layout

    return Layout(session.config.paths.layout, session.config.paths.models)


def _images(session: Session, choice: Choice) -> tuple[list[Image], dict[str, list[Descriptor]]]:
    """The chosen images, and the blobs of every other one here by its name.

    Raises:
        MissingError: some are not built, or not of today's code, models and settings.
    """
    from builder.edges.images import installed
    from builder.edges.registry.push import Image

    config, layout = session.config, _layout(session)
    planned = rendered(session, choice)
    plans = planner(config, choice)
    wanted = [i for i in planned.plan.images if not choice.names or i.name in choice.names]
    found, missing = [], []
    stale: dict[str, tuple[str, ...]] = {}
    for image in wanted:
        if "manifest" not in layout.images().get(image.tag, {}):
            missing.append(image.name)
            continue
        stored = layout.image(image.tag)
        if changed := installed.differences(config, image.tag, stored.written.image.labels, plans):
            stale[image.name] = changed
        blobs = tuple(b for b in stored.blobs if b != stored.manifest)
        found.append(
            Image(
                name=image.name,
                tag=image.tag.rpartition(":")[2],
                manifest=stored.manifest,
                data=stored.written.manifest,
                blobs=blobs,
            )
        )
    for names, what in ((missing, "not built here"), (stale, "not of today's code, models and settings")):
        if names:
            raise MissingError(
                f"{', '.join(names)}: {what}",
                where=str(layout.root),
                detail=[f"{name}: {', '.join(stale[name])}" for name in names if name in stale],
                hint=f"build.py build --mode {config.defaults.mode.value}",
            )
    others: dict[str, list[Descriptor]] = {}
    for tag in layout.images():
        with suppress(BakeError):
            name = tag.rpartition("/")[2].rpartition(":")[0]
            others.setdefault(name, []).extend(layout.image(tag).blobs)
    return found, others


def _alone(session: Session, lock: Path, host: str) -> Any:
    """One push to a registry at a time: the second finds there what the first sent."""
    from builder.edges.system import files

    with suppress(TimeoutError), files.locked(lock, timeout=0):
        return files.locked(lock)
    session.on_progress(Progress(what="push", note=f"waiting for another push to {host}"))
    return files.locked(lock)


def ci(
    session: Session, choice: Choice, *, service: str, out: Path | None, registry: str | None, folder: str, check: bool
) -> Result:
    """A pipeline from the same plan as ``render``'s; or compare it."""
    from builder.core.images import ci as pipeline
    from builder.core.images import reference
    from builder.edges.images import rendered as images
    from builder.edges.system import files

    if registry:
        reference.target(registry, where="--registry")
    if service not in pipeline.KINDS:
        raise UsageError(f'"{service}" is no CI service known here', expected=" or ".join(pipeline.KINDS))
    place = out or Path(pipeline.KINDS[service])
    if place.is_dir():
        raise UsageError("this is a folder", where=str(place), hint=f"--out {place}/images.yml")
    made = rendered(session, choice).plan
    own = place.name if place.is_absolute() else place.as_posix()
    more = ["--registry", registry] if registry else []
    words = ["python3", "build.py", "ci", service, *choice.names, *_typed(session, choice), *more, "--rendered", folder]
    text = pipeline.pipeline(
        service,
        made,
        images.templates(session.config),
        command=shlex.join([*words, "--out", own]),
        choice=shlex.join(_typed(session, choice)),
        folder=folder,
        registry=registry,
    )
    session.live.close()
    data = {"service": service, "file": str(place), "jobs": [i.name for i in made.images], "text": text}
    if check:
        same = place.is_file() and place.read_text(encoding="utf-8", errors="replace") == text
        failure = Different(
            "it isn't what is rendered", where=str(place), hint=shlex.join([*words, "--out", str(place)])
        )
        return Result(
            data={**data, "same": same}, text="as rendered" if same else "", failure=None if same else failure
        )
    if out is None:
        return Result(data=data, text=text.rstrip("\n"))
    files.write_atomic(out, text)
    hint = f"commit it with: python3 build.py render {shlex.join(_typed(session, choice))} --out {folder}"
    return Result(data=data, text=f"{out}: {len(made.images)} images\n{hint}")


def _typed(session: Session, choice: Choice) -> list[str]:
    """The options that make this plan anywhere, whatever that machine's environment says."""
    defaults = session.config.defaults
    words = ["--mode", defaults.mode.value, "--variant", defaults.variant.value, "--preset", defaults.preset]
    words += ["--models", choice.models] if choice.models else []
    words += ["--languages", choice.languages] if choice.languages else []
    words += [] if choice.diarization else ["--no-diarization"]
    return words
