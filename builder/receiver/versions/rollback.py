"""load.py --rollback: back to the version before; it is written down first, so that a kill leaves all old or all new."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.receiver.display import say
from builder.receiver.engine import EngineSocket
from builder.receiver.inventory import INVENTORY, LARGEST_INVENTORY, Inventory, LoaderError, check_inventory, read_file
from builder.receiver.record import about, note_version, own_inventory, write_inventory
from builder.receiver.trust.memory import UNSIGNED, Memory
from builder.receiver.versions.previous import (
    forget,
    hold_images,
    keep_files,
    missing_files,
    previous_of,
    restore_files,
    write_records,
)
from builder.receiver.writing import write_whole

JOURNAL = ".rollback.json"
"""In the receiver's folder from the decision to the end: whoever finds it finishes what it says."""

AGAIN = "load that bundle again: load.py --allow-older"
"""What to do when the version before can't be had otherwise."""


def is_pending(target: Path) -> bool:
    """Whether a rollback was decided and not finished."""
    return os.path.lexists(target / JOURNAL)


def rollback(target: Path, memory: Memory, connect: Callable[[], EngineSocket]) -> None:
    """Go back to the version before; from there, forward again. One that a kill cut short is finished, and that is all.

    Args:
        connect: finds the engine.

    Raises:
        LoaderError: there is no version before, its images are gone, somebody else has their names, or no engine answers.
            Nothing is changed then.
    """
    if memory.believes and is_pending(target):
        finish_rollback(target, connect)
        return
    mine = own_inventory(target) if memory.believes else None
    if mine is None:
        raise LoaderError(3, f"nothing was loaded into {target}", "python3 load.py; or name its folder: --to")
    before = previous_of(target, mine)
    if before is None:
        raise LoaderError(
            3, "no version before this one is kept here", "load an earlier bundle again: load.py --allow-older"
        )
    engine = _engine_for(mine, before, connect)
    if engine:
        _require_images(engine, before, AGAIN)
        _require_own_names(engine, memory, mine, before)
    mine = keep_files(target, mine, before)
    if gone := missing_files(target, before, mine):
        raise LoaderError(3, f"{gone[0]} of the version before is gone", AGAIN)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    journal = {"schema": 1, "at": at, "from": mine, "to": before}
    write_whole(target / JOURNAL, json.dumps(journal).encode() + b"\n")
    _go_back(target, engine, journal)


def finish_rollback(target: Path, connect: Callable[[], EngineSocket]) -> None:
    """Finish a rollback that was cut short.

    Raises:
        LoaderError: what was decided can't be read, or no engine answers.
    """
    try:
        journal = json.loads(read_file(target / JOURNAL, 3 * LARGEST_INVENTORY))
        for name in ("from", "to"):
            journal[name] = check_inventory(json.dumps(journal[name]).encode())
        str(journal["at"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LoaderError(3, f"{target / JOURNAL} can't be read ({error})", "remove it, then load.py again") from None
    say("finishing a rollback that was cut short")
    engine = _engine_for(journal["from"], journal["to"], connect)
    if engine:
        _require_images(engine, journal["to"], f"remove {target / JOURNAL} to give it up, then {AGAIN}")
    _go_back(target, engine, journal)


def _engine_for(mine: Inventory, before: Inventory, connect: Callable[[], EngineSocket]) -> EngineSocket | None:
    """The engine; None where neither version has images."""
    return connect() if mine["images"] or before["images"] else None


def _require_images(engine: EngineSocket, before: Inventory, do: str) -> None:
    """Raises LoaderError, with what to do then, when an image of the version before is gone."""
    gone = [i["name"] for i in before["images"] if "id" not in i or not engine.image(i["id"])]
    if gone:
        raise LoaderError(
            3,
            f"this engine has no longer what {', '.join(gone[:4])} stood for in the version before",
            do,
        )


def _require_own_names(engine: EngineSocket, memory: Memory, mine: Inventory, before: Inventory) -> None:
    """Raises LoaderError when somebody else's image has a name that the version before had."""
    for image in before["images"]:
        there = engine.image(image["name"])
        senders = {image.get("sender", UNSIGNED), UNSIGNED}
        ours = {i["id"] for i in [*mine["images"], *before["images"]] if i["name"] == image["name"] and "id" in i}
        if there and there["Id"] not in ours | memory.given(image["name"], senders, None):
            raise LoaderError(
                5,
                f"this engine has {image['name']} from somebody else; nothing was changed",
                f"give it another name (docker tag {image['name']} …), then docker image rm {image['name']}",
            )


def _go_back(target: Path, engine: EngineSocket | None, journal: dict[str, Any]) -> None:
    """Do what the journal says; each step may have been done before."""
    mine, before = journal["from"], journal["to"]
    if own_inventory(target) != before:  # else all but what follows it is done
        restore_files(target, before, mine)
        if engine:
            hold_images(engine, target, mine)
            _give_names(engine, mine, before)
        # Both ways, so that there is a version before whichever inventory is there when a kill comes.
        write_records(target, {before["base"]: mine, mine["base"]: before})
        write_inventory(before, target)
    note_version(target, before, "restored", at=journal["at"])
    forget(engine, target, before)
    with contextlib.suppress(FileNotFoundError):
        (target / JOURNAL).unlink()
    say(f"back to {before['base'][:16]}…: {len(before['images'])} images; {about(before)}")
    say(f"  {target / INVENTORY} is that version's; --rollback once more goes forward to {mine['base'][:16]}…")


def _give_names(engine: EngineSocket, mine: Inventory, before: Inventory) -> None:
    """Give the images of a version their names, and take those away that it didn't have."""
    for image in before["images"]:
        there = engine.image(image["name"])
        if not there or there["Id"] != image["id"]:
            engine.tag(image["id"], image["name"])
    names = {image["name"] for image in before["images"]}
    for image in mine["images"]:
        there = engine.image(image["name"]) if image["name"] not in names else None
        if there and there["Id"] == image.get("id"):
            engine.remove(image["name"])
