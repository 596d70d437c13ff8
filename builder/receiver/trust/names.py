"""Names of images on this engine: a bundle gets those that are free, and those that bundles of its sender gave out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from builder.receiver.engine import EngineSocket
from builder.receiver.inventory import Inventory, LoaderError, read_json

NAMED = 4
"""Names that an error lists."""


def require_names(
    engine: EngineSocket, inventory: Inventory, given: Callable[[str], set[str]], config: Callable[[str], bytes]
) -> None:
    """Raises LoaderError when an image of somebody else has a name that a bundle would give.

    Args:
        given: ids that bundles of the same sender gave a name to.
        config: the bytes of an image's config, by its digest.
    """
    taken = []
    for image in inventory["images"]:
        there = engine.image(image["name"])
        if there is None or there["Id"] in (image["manifest"], image["config"], *given(image["name"])):
            continue
        diff_ids = [inventory["layers"][x]["diff_id"] for x in image["layers"]]
        if not _is_same(there, diff_ids, config(image["config"])):
            taken.append(image["name"])
    if taken:
        more = f" and {len(taken) - NAMED} more" if len(taken) > NAMED else ""
        raise LoaderError(
            5,
            f"this engine has {', '.join(taken[:NAMED])}{more} from somebody else; nothing was changed",
            f"give it another name (docker tag {taken[0]} …), then docker image rm {taken[0]}; or ask the sender",
        )


def _is_same(there: Any, diff_ids: Sequence[str], config: bytes) -> bool:
    """Whether an image is the same but for its manifest: built here, and packed otherwise for the bundle."""
    try:
        ours = read_json(config)
        settings = [{k: v for k, v in (of or {}).items() if v} for of in (there["Config"], ours.get("config"))]
        platforms = [(there["Os"], there["Architecture"]), (ours["os"], ours["architecture"])]
        return (
            there["RootFS"]["Layers"] == list(diff_ids) and settings[0] == settings[1] and platforms[0] == platforms[1]
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
