"""Versions of images: what a build left of a mode's images, by which names, and which version a mode is held at. Pure.

``build`` moves one tag an image, ``<variant>-<cpu|gpu>``. Beside it each image of the mode gets two that stay where they are:
``…-0.1.0`` of the program's version (``…-0.1.0-r2`` for the second build that left other images, and so on), and
``…-g<commit>`` where the project is a checkout and nothing that images are made from differs from its commit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from builder.core.terms import Mode, Variant
from builder.errors import UsageError

KEPT = 3
"""Versions of a mode that are kept: the current one, and two to go back to."""

NAME = re.compile(r"(?P<moving>.+:(?:slim|full)-(?:cpu|gpu))-(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]{0,99})")
"""A tag of a version or of a commit, by the tag that moves."""

COMMIT = re.compile(r"g?(?P<digits>[0-9a-f]{7,40})")
"""A commit as a person types it."""


@dataclass(frozen=True, kw_only=True)
class VersionImage:
    """An image of a version."""

    tag: str
    """The one that moves."""
    id: str
    """The engine's."""
    manifest: str
    """Its digest in the layout; empty where the layout doesn't have the image."""


@dataclass(frozen=True, kw_only=True)
class ImageVersion:
    """The images of a mode and a variant as one build left them."""

    name: str
    """``0.1.0`` or ``0.1.0-r2``: what its tags end in."""
    commit: str
    """``g`` and twelve digits of the project's commit; empty where none has just these images."""
    at: str
    """When the build was done: ISO 8601, UTC."""
    mode: str
    variant: str
    images: tuple[VersionImage, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What tags of it end in."""
        return (self.name, self.commit) if self.commit else (self.name,)

    @property
    def ids(self) -> dict[str, str]:
        """Moving tag -> id of the image."""
        return {image.tag: image.id for image in self.images}


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A mode and a variant whose moving tags somebody took back: nothing but ``build`` and ``rollback`` moves them again."""

    mode: str
    variant: str
    name: str
    """Of the version."""
    at: str
    """Since when: ISO 8601, UTC."""
    moving: bool
    """The tags are being moved, or that was interrupted: they are of two versions."""
    ids: Mapping[str, str]
    """Moving tag -> id of the image that it is held at."""
    codes: Mapping[str, str]
    """Stage -> hex sha256 of its code in these images: what its results are to be of."""


@dataclass(frozen=True, kw_only=True)
class Versions:
    """What is known of versions here."""

    known: tuple[ImageVersion, ...] = ()
    """Of all modes, oldest first."""
    holds: tuple[Hold, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    """The program's version -> how many names it has had: none is given twice."""
    leaving: Mapping[str, str] = field(default_factory=dict)
    """Tags that no version has any more and that the engine may still have, with the ids of their images."""

    def of(self, mode: str, variant: str) -> tuple[ImageVersion, ...]:
        """The versions of a mode and a variant, oldest first."""
        return tuple(v for v in self.known if (v.mode, v.variant) == (mode, variant))

    def names_of(self, tag: str, manifest: str) -> tuple[str, ...]:
        """What else the image of a moving tag is called: what the tags of its current version end in.

        Args:
            manifest: its digest in the layout.
        """
        return next(
            (
                v.names
                for v in reversed(self.known)
                if self.current(v.mode, v.variant) == v
                and any((i.tag, i.manifest) == (tag, manifest) for i in v.images)
            ),
            (),
        )

    def holds_manifest(self, tag: str, manifest: str) -> bool:
        """Whether a moving tag is held at the image of a manifest."""
        held = [v for h in self.holds if not h.moving and tag in h.ids and (v := self.current(h.mode, h.variant))]
        return any((i.tag, i.manifest) == (tag, manifest) for v in held for i in v.images)

    def current(self, mode: str, variant: str) -> ImageVersion | None:
        """The version that the tags of a mode and a variant are of."""
        own, hold = self.of(mode, variant), self.hold(mode, variant)
        names = [v for v in own if hold is None or v.name == hold.name]
        return names[-1] if names else None

    def hold(self, mode: str, variant: str) -> Hold | None:
        """At what a mode and a variant are held."""
        return next((h for h in self.holds if (h.mode, h.variant) == (mode, variant)), None)


@dataclass(frozen=True, kw_only=True)
class BuildNote:
    """A build that is done."""

    mode: str
    variant: str
    version: str
    """The program's, as it stands in a tag."""
    commit: str
    at: str
    images: tuple[VersionImage, ...]
    """All images of the mode as the engine has them now."""
    ends_hold: bool
    """Whether it was asked for by name: then what is held no longer is."""


def in_tag(version: str) -> str:
    """A version as a tag may have it: a tag knows no plus sign."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", version)[:64]


def noted(state: Versions, build: BuildNote) -> Versions:
    """What is known after a build: a new version when it left other images, else new names for the newest one.

    Versions that somebody took back before are forgotten: the build stands on what was held. Modes share images, so those
    that have an image in common have a new version too.
    """
    if not build.ends_hold and state.hold(build.mode, build.variant):
        return state
    ids = {image.tag: image.id for image in build.images}
    ended = [h for h in state.holds if build.ends_hold and set(h.ids) & set(ids)]
    holds = tuple(h for h in state.holds if h not in ended)
    known = [v for v in state.known if not any(_undone(state, v, hold) for hold in ended)]
    numbers = dict(state.numbers)
    own = [v for v in known if (v.mode, v.variant) == (build.mode, build.variant)]
    if own and own[-1].ids == ids and _is_of(own[-1].name, build.version):
        known[known.index(own[-1])] = replace(own[-1], commit=build.commit or own[-1].commit)
    elif fresh := _fresh(known, build, numbers.get(build.version, 0) + 1, {(h.mode, h.variant) for h in holds}):
        known += fresh
        numbers[build.version] = numbers.get(build.version, 0) + 1
    kept = _bounded(known)
    gone = {**state.leaving, **{tag: image.id for tag, image in names(state.known).items()}}
    after = names(kept)
    return Versions(
        known=kept,
        holds=holds,
        numbers=numbers,
        leaving={tag: id_ for tag, id_ in gone.items() if tag not in after},
    )


def _fresh(
    known: Sequence[ImageVersion], build: BuildNote, number: int, held: Collection[tuple[str, str]]
) -> list[ImageVersion]:
    """The versions that a build makes: of its own mode, and of others that have images of it. Native's has no versions.

    Args:
        held: modes and variants that are held: what they are held at stays.
    """
    if not build.images:
        return []
    own = ImageVersion(
        name=build.version if number == 1 else f"{build.version}-r{number}",
        commit=build.commit,
        at=build.at,
        mode=build.mode,
        variant=build.variant,
        images=build.images,
    )
    now = {image.tag: image for image in build.images}
    newest = {(v.mode, v.variant): v for v in known}
    others = [v for key, v in newest.items() if key not in held and key != (build.mode, build.variant)]
    changed = [(v, tuple(now.get(image.tag, image) for image in v.images)) for v in others]
    return [
        *([own] if build.mode != Mode.NATIVE.value else []),
        *(replace(own, mode=v.mode, variant=v.variant, images=images) for v, images in changed if images != v.images),
    ]


def _undone(state: Versions, version: ImageVersion, hold: Hold) -> bool:
    """Whether a version is newer than the one that its mode is held at."""
    own = state.of(hold.mode, hold.variant)
    held = next((k for k, v in enumerate(own) if v.name == hold.name), len(own))
    return version in own[held + 1 :]


def _is_of(name: str, version: str) -> bool:
    return name == version or name.startswith(f"{version}-r")


def _bounded(known: Sequence[ImageVersion]) -> tuple[ImageVersion, ...]:
    """The last few of each mode and variant."""
    kept: list[ImageVersion] = []
    count: dict[tuple[str, str], int] = {}
    for version in reversed(known):
        key = version.mode, version.variant
        count[key] = count.get(key, 0) + 1
        if count[key] <= KEPT:
            kept.insert(0, version)
    return tuple(kept)


def names(known: Iterable[ImageVersion]) -> dict[str, VersionImage]:
    """Tag -> image, for all names that versions have. A commit that several were built from names the newest."""
    return {f"{image.tag}-{end}": image for version in known for image in version.images for end in version.names}


def options(mode: str, variant: str) -> str:
    """What is typed to mean a mode and a variant."""
    return f"--mode {mode}" + ("" if variant == Variant.SLIM.value else f" --variant {variant}")


def moving_tag(tag: str) -> str | None:
    """The tag that a version's stands beside; None for any other tag."""
    match = NAME.fullmatch(tag)
    return match["moving"] if match else None


def target(state: Versions, mode: str, variant: str, wanted: str | None) -> ImageVersion:
    """The version to go to.

    Args:
        wanted: its name, its commit, or a tag of one of its images; None: the one before the current one. A rollback that
            was interrupted is finished.

    Raises:
        UsageError: no version of that name is kept, or there is none before.
    """
    own, hold = state.of(mode, variant), state.hold(mode, variant)
    kept = ", ".join(name for v in reversed(own) for name in v.names) or "none"
    if wanted is not None:
        found = [v for v in own if _is_meant(v, wanted)]
        if not found:
            raise UsageError(
                f'no version "{wanted[:100]}" of {mode} {variant} is kept here', where="--to", expected=kept
            )
        return found[-1]
    current = next((k for k, v in enumerate(own) if hold and v.name == hold.name), len(own) - 1)
    if hold is not None and hold.moving and current < len(own):
        return own[current]
    if current < 1:
        what = f"{own[0].name} is the oldest that is kept" if own else "no version is known yet"
        raise UsageError(
            f"nothing to go back to in {mode} {variant}: {what}", expected="a version that an earlier build left"
        )
    return own[current - 1]


def _is_meant(version: ImageVersion, wanted: str) -> bool:
    match = NAME.fullmatch(wanted if ":" in wanted else f"x:{wanted}")
    word = match["name"] if match else wanted
    commit = COMMIT.fullmatch(word)
    return word == version.name or bool(
        commit and version.commit and f"g{commit['digits'][:12]}" == version.commit[: 1 + len(commit["digits"])]
    )


def dumped(state: Versions) -> dict[str, Any]:
    """As it is kept in a file."""
    return {
        "versions": [asdict(v) for v in state.known],
        "holds": [asdict(h) for h in state.holds],
        "numbers": dict(state.numbers),
        "leaving": dict(state.leaving),
    }


def parsed(data: Mapping[str, Any]) -> Versions:
    """What a file says; what isn't readable in it is not known."""
    try:
        return Versions(
            known=tuple(_version(one) for one in data["versions"]),
            holds=tuple(
                Hold(
                    **_texts(one, "mode", "variant", "name", "at"),
                    moving=bool(one["moving"]),
                    ids=_pairs(one["ids"]),
                    codes=_pairs(one["codes"]),
                )
                for one in data["holds"]
            ),
            numbers={str(name): int(number) for name, number in data["numbers"].items()},
            leaving=_pairs(data["leaving"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return Versions()


def _version(data: Mapping[str, Any]) -> ImageVersion:
    images = tuple(VersionImage(**_texts(image, "tag", "id", "manifest")) for image in data["images"])
    return ImageVersion(**_texts(data, "name", "commit", "at", "mode", "variant"), images=images)


def _texts(data: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: str(data[key]) for key in keys}


def _pairs(data: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in data.items()}
