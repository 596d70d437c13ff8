"""Images of other platforms than the engine's, in the result of a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import format_size, format_time, table

if TYPE_CHECKING:
    from builder.workflows.images import ImagesBuilt


class OtherPlatformJson(TypedDict):
    """An image of another platform than the engine's, in the layout."""

    name: str
    """As in images/*.yaml."""
    tag: str
    """Its reference in the layout: the image's own, and ``-<architecture>``."""
    platform: str
    """Such as ``linux/arm64``."""
    manifest: str
    """Digest of its manifest: ``sha256:…``."""
    size_bytes: int
    """All of its blobs, as they are sent: layers of code are compressed."""
    state: str
    """``built``, ``cached``, ``assembled`` or ``up to date``, as of the engine's images."""
    seconds: float
    """From the begin of the build until it was done; 0 when it was up to date."""


def others_text(made: ImagesBuilt) -> list[str]:
    """Their table, and that nobody has run them; no line where there are none."""
    if not made.others:
        return []
    rows = [
        (
            other.built.tag,
            other.platform.name,
            format_size(other.size_bytes),
            format_time(other.built.seconds),
            other.built.state,
        )
        for other in made.others
    ]
    names = ", ".join(dict.fromkeys(other.platform.name for other in made.others))
    note = f"assembled for {names} and not run here: run them there before you rely on them  (docs/platforms.md)"
    return [*table(("IMAGE", "PLATFORM", "TO SEND", "TIME", "STATE"), rows), "", note]
