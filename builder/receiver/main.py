"""The command line of the loader."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess  # openssl; the loader has no other module to do it with
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.receiver.engine import EngineSocket, address
from builder.receiver.images import (
    NATIVE,
    Delivery,
    Sources,
    inspect,
    name_all,
    plan,
    require_layers,
    require_space,
    send,
    sweep,
    unpack,
)
from builder.receiver.inventory import (
    INVENTORY,
    KEY,
    LARGEST_INVENTORY,
    SIGNATURE,
    Inventory,
    LoaderError,
    check_inventory,
    read_file,
)
from builder.receiver.jobs.run import Sandbox, accept, new_job, run_job, stage_images
from builder.receiver.missing import version_number
from builder.receiver.parts import Bundle

EPILOG = """exit codes: 0 done, 2 usage, 3 this machine lacks something, 5 the bundle is damaged or not what it says,
7 the acceptance run or a stage failed, 8 done without an optional stage, 130 interrupted"""


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(words: Sequence[str] | None = None, *, sandbox: Sandbox) -> int:
    """Run the loader; its exit code.

    Args:
        words: of the command line; None takes those of the process.
        sandbox: what the containers of a job may do; load.py ends with this call.
    """
    chosen = _arguments(words)
    try:
        if chosen.run:
            _transcribe(chosen.to.absolute(), chosen.run, sandbox)
        else:
            _receive(chosen, sandbox)
    except LoaderError as error:
        say(f"error: {error.what}")
        if error.do:
            say(f"  next: {error.do}")
        return error.code
    except KeyboardInterrupt:
        say("interrupted: nothing was named; run this again, it resumes")
        return 130
    except OSError as error:
        say(f"error: {error.strerror or error}: {error.filename or ''}")
        return 3
    return 0


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="load.py",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Load a bundle into this machine's container engine: what it lacks, checked byte for byte.",
    )
    parser.add_argument(
        "--check", action="store_true", help="read everything once, name damaged parts; needs no engine"
    )
    parser.add_argument("--key", type=Path, metavar="FILE", help="the sender's public key: refuse what it didn't sign")
    parser.add_argument("--fingerprint", metavar="HEX", help="sha256 of inventory.json, as the sender reads it out")
    parser.add_argument(
        "--with",
        dest="others",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="another bundle to take bytes from (weights)",
    )
    parser.add_argument(
        "--to",
        type=Path,
        default=Path("whisperbake"),
        metavar="FOLDER",
        help="where this machine's inventory and job templates are kept (./whisperbake)",
    )
    parser.add_argument(
        "--accept",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="run the acceptance job afterwards, without being asked",
    )
    parser.add_argument("--run", type=Path, metavar="RECORDING", help="transcribe a recording with what is loaded")
    return parser.parse_args(words)


def _receive(chosen: argparse.Namespace, sandbox: Sandbox) -> None:
    """Check the bundle, load it, offer the acceptance run."""
    here = Path(__file__).resolve().parent
    target = chosen.to.absolute()
    bundle = Bundle(here)
    key = chosen.key or (target / KEY if (target / KEY).is_file() else None)
    _trust(bundle, key, chosen.fingerprint)
    _require_own_loader(bundle, here)
    say(f"bundle {bundle.fingerprint[:16]}…: {bundle.inventory['content']}, {len(bundle.inventory['images'])} images")
    if chosen.check:
        check(bundle)
        return
    bundle.require_parts()
    sources = Sources([bundle, *_others(chosen.others, key)])
    target.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        if not bundle.inventory["images"]:
            raise LoaderError(
                2, "this bundle holds weights alone", f"load the one with the code: load.py --with {here}"
            )
        engine = EngineSocket(address())
        mine = _load(engine, bundle, sources, target)
        if chosen.key:
            shutil.copyfile(chosen.key, target / KEY)
        if _wants_acceptance(chosen.accept, mine):
            say(accept(engine, mine, target, say, sandbox=sandbox))
        elif mine["acceptance"]:
            say(f"next: python3 {here / 'load.py'} --accept    (the example, in containers without a network)")


def _others(folders: Sequence[Path], key: Path | None) -> list[Bundle]:
    """The bundles of ``--with``, signed by the same key, all parts there."""
    others = [Bundle(folder.absolute()) for folder in folders]
    for other in others:
        _trust(other, key, None)
        other.require_parts()
    return others


def _wants_acceptance(answer: bool | None, mine: Inventory) -> bool:
    """Whether to run the example: as the command line says, else as a person at a terminal says."""
    if answer is not None or not mine["acceptance"] or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return bool(answer)
    say("run the acceptance job now? [Y/n]")
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


class Percent:
    """Says every two seconds how much of ``total`` bytes is done."""

    def __init__(self, total: int, text: Callable[[int, int], str]) -> None:
        self.total, self.text, self.done, self.said = total, text, 0, time.monotonic()

    def __call__(self, size: int) -> None:
        self.done += size
        if time.monotonic() - self.said > 2:
            self.said = time.monotonic()
            say(self.text(self.done, self.total))


def check(bundle: Bundle) -> None:
    """Read everything once. Raises LoaderError when a part is damaged or missing."""
    total = sum(p["size"] for p in bundle.inventory["parts"])
    wrong = bundle.damaged(Percent(total, lambda done, of: f"  {100 * done // max(of, 1)} % of {of / 1e9:.1f} GB"))
    if wrong:
        raise LoaderError(
            5, f"damaged or missing: {', '.join(wrong)}", "copy these parts again from the sender; all else is right"
        )
    say(f"whole: {len(bundle.inventory['parts'])} parts, {total / 1e9:.2f} GB")


def _trust(bundle: Bundle, key: Path | None, fingerprint: str | None) -> None:
    """Check the inventory's signature and fingerprint, on which everything else depends. Raises LoaderError."""
    if fingerprint is not None:
        plain = re.sub(r"[^0-9a-f]", "", fingerprint.lower())
        if len(plain) < 16:
            raise LoaderError(
                2, "a fingerprint has at least 16 hex digits", "--fingerprint, as the sender's bundle inspect shows it"
            )
        if not bundle.fingerprint.startswith(plain):
            raise LoaderError(
                5, f"this is another bundle: its fingerprint is {bundle.fingerprint}", "don't use it; ask the sender"
            )
    signed = (bundle.folder / SIGNATURE).is_file()
    if key is None:
        if signed and fingerprint is None:
            say("signed, but not checked: --key FILE with the sender's public key, which must not come with the bundle")
        return
    if not signed:
        raise LoaderError(5, f"{bundle.folder} is not signed, but a key is given", "don't use it; ask the sender")
    if not shutil.which("openssl"):
        raise LoaderError(
            3,
            "the signature can't be checked: openssl is not installed",
            "install it, or compare by telephone: --fingerprint",
        )
    if not key.is_file():
        raise LoaderError(2, f"no key {key}", "--key FILE")
    words = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        str(key),
        "-rawin",
        "-sigfile",
        str(bundle.folder / SIGNATURE),
        "-in",
        str(bundle.folder / INVENTORY),
    ]
    done = subprocess.run(words, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    if "nknown option" in said or "Unrecognized" in said:
        raise LoaderError(
            3, "the signature can't be checked: openssl is too old", "openssl 3, or by telephone: --fingerprint"
        )
    if done.returncode != 0 or "Signature Verified Successfully" not in said:
        raise LoaderError(5, f"{INVENTORY} was not signed with {key.name}", "don't use this bundle; ask the sender")
    say(f"signed with {key.name}")


def _require_own_loader(bundle: Bundle, here: Path) -> None:
    """Raises LoaderError when this file is damaged.

    Who changes it on purpose can't be found from in here (docs/air-gap.md: check it by hand).
    """
    if hashlib.sha256((here / "load.py").read_bytes()).hexdigest() != bundle.inventory["loader"]["sha256"]:
        raise LoaderError(5, "load.py is not the one of this bundle", "copy load.py again from the sender")


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    with (target / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LoaderError(3, "another load.py runs in this folder", "wait for it") from None
        yield


def _load(engine: EngineSocket, bundle: Bundle, sources: Sources, target: Path) -> Inventory:
    """Bring all images in; this machine's inventory."""
    inventory = bundle.inventory
    _require_engine(engine, inventory["engine"])
    before = _mine(target)
    known = [*inventory["images"], *inventory["known"], *(before["images"] if before else [])]
    deliveries = plan(inventory, inspect(engine, known))
    require_layers(inventory, deliveries, sources)
    require_space(engine, inventory, deliveries, target)
    total = sum(inventory["layers"][x]["size"] for delivery in deliveries for x in delivery.layers)
    sent = Percent(total, lambda done, of: f"  {done / 1e6:.0f} of {of / 1e6:.0f} MB")
    try:
        names = [_deliver(engine, inventory, sources, delivery, sent) for delivery in deliveries]
        files = unpack(bundle, target)
        images = name_all(engine, deliveries, names)
    except (LoaderError, OSError) as error:
        # What a dead engine has, the next run finds.
        if not isinstance(error, LoaderError) or "went away" not in error.what:
            with contextlib.suppress(LoaderError):
                sweep(engine)
        raise
    mine = _merge(engine, bundle, before, images, files)
    _write_inventory(mine, target)
    if (target / NATIVE).is_dir():
        say(
            f"native: cd {target / NATIVE} && PIP_NO_INDEX=1 PIP_FIND_LINKS={target}/native/wheels python3 build.py run …"
        )
    say(
        f"loaded: {len(images)} images, {sent.done / 1e6:.1f} MB sent;"
        f" {target / INVENTORY} is what the sender's --base takes"
    )
    return mine


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


def _write_inventory(mine: Inventory, target: Path) -> None:
    beside = target / f".{INVENTORY}.part"
    with beside.open("w", encoding="utf-8") as out:
        out.write(json.dumps(mine, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        out.flush()
        os.fsync(out.fileno())
    beside.replace(target / INVENTORY)


def _mine(target: Path) -> Inventory | None:
    """What an earlier run wrote; None when there is nothing that can be read."""
    try:
        return check_inventory(read_file(target / INVENTORY, LARGEST_INVENTORY))
    except LoaderError:
        return None


def _merge(
    engine: EngineSocket,
    bundle: Bundle,
    before: Inventory | None,
    images: list[dict[str, Any]],
    files: list[dict[str, Any]],
) -> Inventory:
    """This machine's inventory: what was loaded, and what earlier bundles brought that the engine still names."""
    inventory = bundle.inventory
    names, paths = {i["name"] for i in images}, {f["path"] for f in files}
    old = [i for i in (before or {}).get("images", ()) if i["name"] not in names and engine.image(i["name"])]
    layers = {**((before or {}).get("layers") or {}), **inventory["layers"]}
    used = {x for i in [*images, *old] for x in i["layers"]}
    return {
        "schema": 1,
        "kind": "receiver",
        "content": "complete",
        "made_by": inventory["made_by"],
        "known": [],
        "base": bundle.fingerprint,
        "engine": {"store": engine.store, "version": engine.version, "platform": engine.platform},
        "images": [*images, *old],
        "layers": {x: layers[x] for x in sorted(used)},
        "models": inventory["models"],
        "files": [*files, *(f for f in (before or {}).get("files", ()) if f["path"] not in paths)],
        "parts": [],
        "memory": {**(before or {}).get("memory", {}), **inventory.get("memory", {})},
        "acceptance": inventory["acceptance"] or (before or {}).get("acceptance"),
    }


def _transcribe(target: Path, recording: Path, sandbox: Sandbox) -> None:
    """One recording through the loaded images. Raises LoaderError."""
    mine = _mine(target)
    if mine is None or not mine["acceptance"]:
        raise LoaderError(
            3, f"nothing was loaded into {target} that could run", "python3 load.py; or name its folder: --to"
        )
    if not recording.is_file():
        raise LoaderError(2, f"no recording {recording}", "--run FILE")
    folder = target / "jobs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    job = new_job(target / mine["acceptance"]["job"], recording, recording.name, folder)
    engine = EngineSocket(address())
    lost = run_job(engine, stage_images(mine), job, folder, say, sandbox=sandbox, memory=mine.get("memory", {}))
    for path in sorted((folder / "output").iterdir()):
        print(path)
    if lost:
        raise LoaderError(8, f"done without {' and '.join(lost)}", f"the job's folder is {folder}")
