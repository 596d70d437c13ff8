"""The command line of the loader."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.receiver.display import Percent, guard, say, shown
from builder.receiver.engine import EngineSocket, address
from builder.receiver.images import (
    Delivery,
    Sources,
    inspect,
    name_all,
    plan,
    require_layers,
    require_room_beside,
    require_space,
    send,
    sweep,
)
from builder.receiver.inventory import INVENTORY, KEY, SIGNATURE, FileEntry, Inventory, LoaderError, read_file
from builder.receiver.jobs.container import Sandbox
from builder.receiver.jobs.recordings import transcribe
from builder.receiver.jobs.run import accept
from builder.receiver.missing import image_id, version_number
from builder.receiver.options import arguments, asked_of
from builder.receiver.parts import Bundle, faults_text
from builder.receiver.record import (
    LOG,
    about,
    fingerprint_of,
    log_text,
    merged,
    note,
    older,
    own_inventory,
    write_inventory,
)
from builder.receiver.trust.keys import Expected, PublicKey, vouched
from builder.receiver.trust.memory import UNSIGNED, Memory
from builder.receiver.trust.names import require_names
from builder.receiver.unpack import NATIVE, unpack
from builder.receiver.versions.previous import forget, hold_images, keep_files, previous_of, write_records
from builder.receiver.versions.rollback import finish_rollback, is_pending, rollback
from builder.receiver.writing import Incoming, write_whole

LARGEST_LOADER = 4 << 20
"""Bytes of load.py; it has about a hundred thousand."""


def main(words: Sequence[str] | None = None, *, sandbox: Sandbox) -> int:
    """Run the loader; its exit code.

    Args:
        words: of the command line; None takes those of the process.
        sandbox: what the containers of a job may do; load.py ends with this call.
    """
    guard()
    chosen = arguments(words)
    try:
        if chosen.log:
            print(log_text(chosen.to) or f"nothing was loaded into {chosen.to}")
        elif chosen.rollback:
            _rollback(chosen)
        elif chosen.run:
            return _transcribe(chosen, sandbox)
        else:
            _receive(chosen, sandbox)
    except LoaderError as error:
        say(f"error: {error.what}")
        for line in error.detail:
            say(f"  | {line}")
        if error.do:
            say(f"  next: {error.do}")
        return error.code
    except KeyboardInterrupt:
        say("interrupted" if chosen.run else "interrupted: nothing was named; run this again, it resumes")
        return 130
    except OSError as error:
        say(f"error: {error.strerror or error}: {shown(str(error.filename or ''))}")
        say("  next: see that this user may read and write there, then run this again")
        return 3
    return 0


def _rollback(chosen: argparse.Namespace) -> None:
    """Go back to the version before."""
    target = chosen.to.absolute()
    memory = Memory(target, Path(__file__).resolve().parent)
    if not target.is_dir():
        raise LoaderError(3, f"nothing was loaded into {target}", "python3 load.py; or name its folder: --to")
    with _locked(target):
        rollback(target, memory, lambda: EngineSocket(address()))


def _finish_rollback(target: Path, memory: Memory) -> None:
    """Finish a rollback that was cut short, before anybody reads what this machine has."""
    if memory.believes and is_pending(target):
        with _locked(target):
            if is_pending(target):
                finish_rollback(target, lambda: EngineSocket(address()))


def _receive(chosen: argparse.Namespace, sandbox: Sandbox) -> None:
    """Check the bundle, load it, offer the acceptance run."""
    here = Path(__file__).resolve().parent
    target = chosen.to.absolute()
    bundle = Bundle(here)
    memory = Memory(target, here)
    if not chosen.check:
        _finish_rollback(target, memory)
    before = own_inventory(target) if memory.believes else None
    expected = memory.expected(before)
    key = vouched(bundle, chosen, expected)
    _require_own_loader(bundle, here)
    say(f"bundle {bundle.fingerprint[:16]}…: {bundle.inventory['content']}, {len(bundle.inventory['images'])} images")
    say(f"  {about(bundle.inventory)}")
    if chosen.check:
        check(bundle)
        return
    bundle.require_parts()
    others = [Bundle(folder.absolute()) for folder in chosen.others]  # they give bytes, which go by their sha256
    for other in others:
        other.require_parts()
    target.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        if not bundle.inventory["images"]:
            raise LoaderError(
                2, "this bundle holds weights alone", f"load the one with the code: load.py --with {here}"
            )
        senders = _family(key, expected, renewed=chosen.new_key is not None)
        _require_newer(bundle, older(bundle, before, memory.newest(senders)), target, chosen.allow_older)
        engine = _engine(bundle, chosen.native)
        load = Loading(bundle, Sources([bundle, *others]), target, before, memory, key, senders)
        if engine is None:
            _unpack_native(load)
            return
        mine = _load(engine, load)
        if _wants_acceptance(chosen.accept, mine):
            say(accept(engine, mine, target, say, sandbox=sandbox))
        elif mine["acceptance"]:
            say(f"next: python3 {here / 'load.py'} --accept    (the example, in containers without a network)")


@dataclass(frozen=True)
class Loading:
    """A bundle on its way in, and what is known of it."""

    bundle: Bundle
    sources: Sources
    target: Path
    before: Inventory | None
    """This machine's inventory, if it is believed."""
    memory: Memory
    key: PublicKey | None
    """The sender's, which has signed it; None where somebody else vouches."""
    senders: Sequence[str]
    """Those whose images it may replace: its own first."""

    @property
    def signed(self) -> bool:
        return os.path.lexists(self.bundle.folder / SIGNATURE)

    def given(self, name: str) -> set[str]:
        """Ids that bundles of the same sender gave a name to."""
        return self.memory.given(name, self.senders, self.before)

    def remember(self, names: Mapping[str, str]) -> None:
        """Write down who sent it, and the ids that names are given to; before they are."""
        made = self.bundle.inventory.get("made") or {}
        self.memory.remember(self.key, self.signed, names, made.get("created"))
        if self.key:
            write_whole(self.target / KEY, self.key.pem)


def _family(key: PublicKey | None, expected: Expected, *, renewed: bool) -> list[str]:
    """The senders whose images a bundle may replace: its own, those of before there was a key, and of the key before."""
    if key is None:
        return [UNSIGNED]
    before = [expected.key.sender] if renewed and expected.key else []
    return [key.sender, UNSIGNED, *before]


def _require_newer(bundle: Bundle, why: str, target: Path, allowed: bool) -> None:
    """Raises LoaderError when a bundle is older than what is loaded, unless that is meant; a person is asked.

    Args:
        why: it is older; or an empty text.
    """
    if not why:
        return
    if allowed:
        say(f"warning: {why}: loaded all the same, --allow-older")
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        say(f"warning: {why}")
        say("load the older one? [y/N]")
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return
    note(target, bundle, "refused", why=why)
    raise LoaderError(2, why, "load the newer one; --allow-older, if going back is meant")


def _engine(bundle: Bundle, native: bool) -> EngineSocket | None:
    """The engine; None where only what native runs need is to be unpacked, or nothing else can be.

    Raises:
        LoaderError: no engine answers and the bundle has no native set, or it has none and nothing else is wanted.
    """
    has_native = any(path.startswith(f"{NATIVE}/") for path in bundle.files)
    if native and not has_native:
        raise LoaderError(2, "this bundle has nothing for native runs", "ask for one that was made --with-native")
    if native:
        return None
    try:
        return EngineSocket(address())
    except LoaderError as error:
        if not has_native:
            raise
        say(f"{error.what}: no image is loaded, only what native runs need is unpacked")
        return None


def _unpack_native(load: Loading) -> None:
    """Unpack a bundle without an engine."""
    bundle, target, incoming = load.bundle, load.target, Incoming(load.target)
    require_room_beside(bundle.inventory, target)
    try:
        files = unpack(bundle, incoming)
        load.remember({})
        kept = _keep_version(None, load, files)
        incoming.place()
    finally:
        incoming.clear()
    _take_over(None, load, kept, merged(None, bundle, load.before, [], files, signed=load.signed))
    note(target, bundle, "unpacked")
    _say_native(bundle, target)


def _say_native(bundle: Bundle, target: Path) -> None:
    """What to type for a native run, and whether its wheels are for this Python."""
    project, made = target / NATIVE, bundle.inventory.get("made") or {}
    python, own = made.get("python"), f"{sys.version_info[0]}.{sys.version_info[1]}"
    words = f"PIP_NO_INDEX=1 PIP_FIND_LINKS={target}/native/wheels python{python or '3'} build.py run …"
    say(f"native: cd {project} && {words}")
    if python and python != own:
        say(f"warning: its wheels are for Python {python}; this is {own}")


def _wants_acceptance(answer: bool | None, mine: Inventory) -> bool:
    """Whether to run the example: as the command line says, else as a person at a terminal says."""
    if answer is not None or not mine["acceptance"] or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return bool(answer)
    say("run the acceptance job now? [Y/n]")
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


def check(bundle: Bundle) -> None:
    """Read everything once. Raises LoaderError when a part is damaged or missing."""
    total = sum(p["size"] for p in bundle.inventory["parts"])
    if wrong := bundle.faults(Percent(total, "reading")):
        raise LoaderError(5, faults_text(wrong), "copy these files again from the sender; all else is right")
    say(f"whole: {len(bundle.inventory['parts'])} parts, {total / 1e9:.2f} GB")


def _require_own_loader(bundle: Bundle, here: Path) -> None:
    """Raises LoaderError when this file is damaged.

    Who changes it on purpose can't be found from in here (docs/air-gap.md: check it by hand).
    """
    if hashlib.sha256(read_file(here / "load.py", LARGEST_LOADER)).hexdigest() != bundle.inventory["loader"]["sha256"]:
        raise LoaderError(5, "load.py is not the one of this bundle", "copy load.py again from the sender")


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    for name in (".lock", LOG):
        if (target / name).is_symlink():
            raise LoaderError(3, f"{target / name} is a link", f"remove it, or name another folder than {target}: --to")
    handle = os.open(target / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LoaderError(3, "another load.py runs in this folder", "wait for it") from None
        yield


def _load(engine: EngineSocket, load: Loading) -> Inventory:
    """Bring all images in; this machine's inventory."""
    bundle, target, before, sources = load.bundle, load.target, load.before, load.sources
    inventory = bundle.inventory
    _require_engine(engine, inventory["engine"])
    require_names(engine, inventory, load.given, sources.small)
    known = [*inventory["images"], *inventory["known"], *(before["images"] if before else [])]
    deliveries = plan(inventory, inspect(engine, known))
    require_layers(inventory, deliveries, sources, fingerprint_of(before) if before else None)
    require_room_beside(inventory, target)
    require_space(engine, inventory, deliveries)
    total = sum(inventory["layers"][x]["size"] for delivery in deliveries for x in delivery.layers)
    sent = Percent(total, "to the engine")
    incoming = Incoming(target)
    try:
        names = [_deliver(engine, inventory, sources, delivery, sent) for delivery in deliveries]
        files = unpack(bundle, incoming)
        require_names(engine, inventory, load.given, sources.small)  # somebody may have built one meanwhile
        ids = [image_id(engine.store, i["manifest"], i["config"]) for i in inventory["images"]]
        before_names = {i["name"]: load.given(i["name"]) for i in inventory["images"]}
        load.remember(dict(zip((i["name"] for i in inventory["images"]), ids)))
        kept = _keep_version(engine, load, files)
        incoming.place()
        images = name_all(engine, deliveries, names, target / "jobs", before_names)
    except (LoaderError, OSError) as error:
        # What a dead engine has, the next run finds.
        if not isinstance(error, LoaderError) or "went away" not in error.what:
            with contextlib.suppress(LoaderError):
                sweep(engine)
        raise
    finally:
        incoming.clear()
    images = [{**image, "sender": load.key.sender if load.key else UNSIGNED} for image in images]
    mine = merged(engine, bundle, before, images, files, signed=load.signed)
    _take_over(engine, load, kept, mine)
    note(target, bundle, "loaded", images=len(images), sent=sent.done, store=engine.store)
    if (target / NATIVE).is_dir():
        _say_native(bundle, target)
    say(
        f"loaded: {len(images)} images, {sent.done / 1e6:.1f} MB sent;"
        f" {target / INVENTORY} is what the sender's --base takes"
    )
    return mine


def _keep_version(engine: EngineSocket | None, load: Loading, files: list[FileEntry]) -> Inventory | None:
    """Hold what a bundle is about to replace; the version to go back to, None where it is this very bundle's.

    Args:
        files: what the bundle brings beside images.
    """
    before = load.before
    if before is None or before["base"] == load.bundle.fingerprint:
        return None
    if engine:
        hold_images(engine, load.target, before)
    coming = {entry["path"]: entry for entry in [*before["files"], *files]}
    return keep_files(load.target, before, {"files": list(coming.values())})


def _take_over(engine: EngineSocket | None, load: Loading, kept: Inventory | None, mine: Inventory) -> None:
    """Write this machine's inventory: from then on the version before is the one that was kept."""
    if kept is not None and load.before is not None:
        records = {load.before["base"]: previous_of(load.target, load.before), mine["base"]: kept}
        write_records(load.target, {after: version for after, version in records.items() if version is not None})
    write_inventory(mine, load.target)
    forget(engine, load.target, mine)


def _require_engine(engine: EngineSocket, needed: dict[str, str]) -> None:
    """Raises LoaderError when the engine is too old, or of another platform."""
    if version_number(engine.version) < version_number(needed["oldest"]):
        raise LoaderError(
            3, f"the engine is {engine.version}; this bundle needs {needed['oldest']} or later", "update it"
        )
    if engine.platform != needed["platform"]:
        raise LoaderError(
            3, f"the engine is {engine.platform}, the images are {needed['platform']}", "ask for a bundle for it"
        )


def _deliver(engine: EngineSocket, inventory: Inventory, sources: Sources, delivery: Delivery, sent: Percent) -> str:
    """Send what an image lacks; the name that it has until all are there."""
    before = sent.done
    name = delivery.present or send(engine, inventory, sources, delivery, sent)
    image, count = delivery.image, len(delivery.layers)
    say(f"{image['name']}: {count} of {len(image['layers'])} layers sent, {(sent.done - before) / 1e6:.1f} MB")
    return name


def _transcribe(chosen: argparse.Namespace, sandbox: Sandbox) -> int:
    """Recordings through the loaded images; the exit code. Raises LoaderError."""
    asked, target = asked_of(chosen), chosen.to.absolute()
    memory = Memory(target, Path(__file__).resolve().parent)
    _finish_rollback(target, memory)
    mine = own_inventory(target) if memory.believes else None
    if mine is None or not mine["acceptance"] or not mine["images"]:
        raise LoaderError(
            3, f"nothing was loaded into {target} that could run", "python3 load.py; or name its folder: --to"
        )
    return transcribe(EngineSocket(address()), mine, target, chosen.run, asked, sandbox=sandbox)
