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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.receiver.engine import Engine, address
from builder.receiver.images import (
    NATIVE,
    Sources,
    look,
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
    Stop,
    check_inventory,
    read_file,
)
from builder.receiver.parts import Bundle
from builder.receiver.run import accept, new_job, run_job

EPILOG = """exit codes: 0 done, 2 usage, 3 this machine lacks something, 5 the bundle is damaged or not what it says,
7 the acceptance run failed, 130 interrupted"""


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(words: Sequence[str] | None = None) -> int:
    """Run the loader; its exit code."""
    chosen = _arguments(words)
    try:
        _run(chosen)
    except Stop as stop:
        say(f"error: {stop.what}")
        if stop.do:
            say(f"  next: {stop.do}")
        return stop.code
    except KeyboardInterrupt:
        say("interrupted: nothing was named; run this again, it goes on")
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
        "--check", action="store_true", help="read everything once, name damaged parts; no engine needed"
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
        help="another bundle that bytes may come from (weights)",
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
        help="the acceptance run afterwards, without being asked",
    )
    parser.add_argument("--run", type=Path, metavar="RECORDING", help="transcribe a recording with what is loaded")
    return parser.parse_args(words)


def _run(chosen: argparse.Namespace) -> None:
    here = Path(__file__).resolve().parent
    target = chosen.to.absolute()
    if chosen.run:
        _transcribe(target, chosen.run)
        return
    bundle = Bundle(here)
    key = chosen.key or (target / KEY if (target / KEY).is_file() else None)
    _trust(bundle, key, chosen.fingerprint)
    _itself(bundle, here)
    say(f"bundle {bundle.fingerprint[:16]}…: {bundle.inventory['content']}, {len(bundle.inventory['images'])} images")
    if chosen.check:
        check(bundle)
        return
    bundle.require_parts()
    others = [Bundle(folder.absolute()) for folder in chosen.others]
    for other in others:
        _trust(other, key, None)
        other.require_parts()
    target.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        if not bundle.inventory["images"]:
            raise Stop(2, "this bundle holds weights alone", f"load the one with the code: load.py --with {here}")
        engine = Engine(address())
        mine = _load(engine, bundle, Sources([bundle, *others]), target)
        if chosen.key:
            shutil.copyfile(chosen.key, target / KEY)
        ask = chosen.accept is None and sys.stdin.isatty() and sys.stderr.isatty() and mine["acceptance"]
        if ask:
            say("run the acceptance job now? [Y/n]")
        if chosen.accept or (ask and sys.stdin.readline().strip().lower() in ("", "y", "yes")):
            say(accept(engine, mine, target, say))
        elif mine["acceptance"]:
            say(f"next: python3 {here / 'load.py'} --accept    (the example, in containers without a network)")


def check(bundle: Bundle) -> None:
    """Read everything once. Raises Stop."""
    total, done, told = sum(p["size"] for p in bundle.inventory["parts"]), 0, time.monotonic()

    def tell(size: int) -> None:
        nonlocal done, told
        done += size
        if time.monotonic() - told > 2:
            told = time.monotonic()
            say(f"  {100 * done // max(total, 1)} % of {total / 1e9:.1f} GB")

    wrong = bundle.damaged(tell)
    if wrong:
        raise Stop(
            5, f"damaged or missing: {', '.join(wrong)}", "copy these parts again from the sender; all else is right"
        )
    say(f"whole: {len(bundle.inventory['parts'])} parts, {total / 1e9:.2f} GB")


def _trust(bundle: Bundle, key: Path | None, fingerprint: str | None) -> None:
    """Signature and fingerprint of the inventory; everything else hangs on it. Raises Stop."""
    if fingerprint is not None:
        plain = re.sub(r"[^0-9a-f]", "", fingerprint.lower())
        if len(plain) < 16:
            raise Stop(
                2, "a fingerprint has 16 hex digits at least", "--fingerprint, as the sender's bundle inspect shows it"
            )
        if not bundle.fingerprint.startswith(plain):
            raise Stop(
                5, f"this is another bundle: its fingerprint is {bundle.fingerprint}", "don't use it; ask the sender"
            )
    signed = (bundle.folder / SIGNATURE).is_file()
    if key is None:
        if signed and fingerprint is None:
            say("signed, and not checked: --key FILE with the sender's public key, which must not come with the bundle")
        return
    if not signed:
        raise Stop(5, f"{bundle.folder} is not signed, and a key is given", "don't use it; ask the sender")
    if not shutil.which("openssl"):
        raise Stop(
            3, "the signature can't be checked: no openssl here", "install it, or compare by telephone: --fingerprint"
        )
    if not key.is_file():
        raise Stop(2, f"there is no key {key}", "--key FILE")
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
        raise Stop(3, "the signature can't be checked: openssl is too old", "openssl 3, or by telephone: --fingerprint")
    if done.returncode != 0 or "Signature Verified Successfully" not in said:
        raise Stop(5, f"{INVENTORY} was not signed with {key.name}", "don't use this bundle; ask the sender")
    say(f"signed with {key.name}")


def _itself(bundle: Bundle, here: Path) -> None:
    """Damage of this file; who changes it on purpose can't be found from in here (docs/air-gap.md: check it by hand)."""
    if hashlib.sha256((here / "load.py").read_bytes()).hexdigest() != bundle.inventory["loader"]["sha256"]:
        raise Stop(5, "load.py is not the one of this bundle", "copy load.py again from the sender")


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    with (target / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Stop(3, "another load.py is at work here", "wait for it") from None
        yield


def _load(engine: Engine, bundle: Bundle, sources: Sources, target: Path) -> Inventory:
    """Bring all images in; this machine's inventory."""
    inventory = bundle.inventory
    wanted = inventory["engine"]
    if _number(engine.version) < _number(wanted["oldest"]):
        raise Stop(3, f"the engine is {engine.version}; this bundle needs {wanted['oldest']} or later", "update it")
    if engine.platform != wanted["platform"]:
        raise Stop(
            3, f"the engine is {engine.platform}, the images are {wanted['platform']}", "ask for a bundle for it"
        )
    before = _mine(target)
    known = [*inventory["images"], *inventory["known"], *(before["images"] if before else [])]
    works = plan(engine, inventory, look(engine, known))
    require_layers(inventory, works, sources)
    require_space(engine, inventory, works, target)
    sent, names, total = 0, [], sum(inventory["layers"][x]["size"] for w in works for x in w.layers)
    told = time.monotonic()

    def tell(size: int) -> None:
        nonlocal sent, told
        sent += size
        if time.monotonic() - told > 2:
            told = time.monotonic()
            say(f"  {sent / 1e6:.0f} of {total / 1e6:.0f} MB")

    try:
        for work in works:
            count = len(work.image["layers"])
            begun = sent
            names.append(work.present or send(engine, inventory, sources, work, tell))
            say(f"{work.image['name']}: {len(work.layers)} of {count} layers sent, {(sent - begun) / 1e6:.1f} MB")
        files = unpack(bundle, target)
        images = name_all(engine, works, names)
    except (Stop, OSError) as error:
        if not isinstance(error, Stop) or "went away" not in error.what:  # what a dead engine has, the next run finds
            with contextlib.suppress(Stop):
                sweep(engine)
        raise
    mine = _merge(engine, bundle, before, images, files)
    beside = target / f".{INVENTORY}.part"
    with beside.open("w", encoding="utf-8") as out:
        out.write(json.dumps(mine, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        out.flush()
        os.fsync(out.fileno())
    beside.replace(target / INVENTORY)
    if (target / NATIVE).is_dir():
        say(
            f"native: cd {target / NATIVE} && PIP_NO_INDEX=1 PIP_FIND_LINKS={target}/native/wheels python3 build.py run …"
        )
    say(
        f"loaded: {len(images)} images, {sent / 1e6:.1f} MB sent; {target / INVENTORY} is what the sender's --base takes"
    )
    return mine


def _mine(target: Path) -> Inventory | None:
    """What an earlier run wrote; nothing when it isn't readable any more."""
    try:
        return check_inventory(read_file(target / INVENTORY, LARGEST_INVENTORY))
    except Stop:
        return None


def _merge(
    engine: Engine, bundle: Bundle, before: Inventory | None, images: list[dict[str, Any]], files: list[dict[str, Any]]
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
        "acceptance": inventory["acceptance"] or (before or {}).get("acceptance"),
    }


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:2])


def _transcribe(target: Path, recording: Path) -> None:
    """One recording through the loaded images. Raises Stop."""
    mine = _mine(target)
    if mine is None or not mine["acceptance"]:
        raise Stop(3, f"nothing was loaded into {target} that could run", "python3 load.py; or name its folder: --to")
    if not recording.is_file():
        raise Stop(2, f"there is no recording {recording}", "--run FILE")
    folder = target / "jobs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    job = new_job(target / mine["acceptance"]["job"], recording, recording.name, folder)
    run_job(Engine(address()), {i["stage"]: i["id"] for i in mine["images"] if i["stage"]}, job, folder, say)
    for path in sorted((folder / "output").iterdir()):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
