"""stages/<name>/stage.yaml, and the settings of stages in bake.yaml, as checked data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType

from builder.core.config import settings
from builder.core.config.types import WHOLE, ChosenSetting, SettingValue, StageSetting, StageSpec
from builder.core.weights import catalog
from builder.core.yaml_document import Document, Path, Strict
from builder.errors import UsageError, did_you_mean

TYPES = ("int", "float", "str", "bool")
"""What a setting may be of."""


class SettingShape(Strict):
    """One of a stage's ``settings``."""

    type: str
    default: SettingValue
    help: str
    min: int | float | None = None
    max: int | float | None = None
    choices: list[str] = []
    longest: int = 200
    option: str | None = None
    instead: str | None = None
    machine: bool = False


class StageShape(Strict):
    """stages/<name>/stage.yaml."""

    name: str
    summary: str
    needs: list[str] = []
    uses: list[str] = []
    gpu: list[str] = []
    media: bool = False
    optional: bool = False
    apart: bool = False
    requirements: dict[str, str] = {}
    settings: dict[str, SettingShape] = {}
    memory_mb: int = 512
    memory_mb_hour: int = WHOLE
    memory_full_mb: int | None = None
    memory_full_mb_hour: int = 0


def read_stage(name: str, text: str) -> tuple[Document, StageShape]:
    """A stage's file.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    document = Document(name, text)
    shape = document.read(StageShape)
    folder = PurePosixPath(name).parent.name
    if shape.name != folder:
        raise document.error(
            f'the stage is called "{shape.name}"', ("name",), expected=f'its folder\'s name, "{folder}"'
        )
    if not catalog.ID.fullmatch(shape.name):
        raise document.error(f"\"{shape.name}\" can't be a stage's name", ("name",))
    for key in ("memory_mb", "memory_mb_hour", "memory_full_mb", "memory_full_mb_hour"):
        value, least = getattr(shape, key), 0 if key.endswith("_hour") else 1
        if value is not None and not least <= value <= 1_000_000:
            raise document.error(f"{value} MB can't be right", (key,), expected=f"{least} to 1000000")
    return document, shape


def read_settings(document: Document, shapes: Mapping[str, SettingShape]) -> Mapping[str, StageSetting]:
    """A stage's settings.

    Raises:
        ConfigError: a type is unknown, a number has no limits, or a default is not what it says it is.
    """
    return MappingProxyType({name: _setting(document, ("settings", name), shape) for name, shape in shapes.items()})


def _setting(document: Document, at: Path, shape: SettingShape) -> StageSetting:
    if shape.type not in TYPES:
        raise document.error(
            f'"{shape.type}" is not a type',
            (*at, "type"),
            expected=", ".join(TYPES),
            hint=did_you_mean(shape.type, TYPES),
        )
    if shape.type in ("int", "float") and (shape.min is None or shape.max is None):
        raise document.error("a number has limits", at, hint="add min and max")
    setting = StageSetting(
        type=shape.type,
        default=shape.default,
        summary=shape.help,
        minimum=0 if shape.min is None else shape.min,
        maximum=0 if shape.max is None else shape.max,
        choices=tuple(shape.choices),
        longest=shape.longest,
        option=shape.option,
        instead=shape.instead,
        machine=shape.machine,
    )
    try:
        settings.checked(setting, shape.default)
    except ValueError as error:
        raise document.error(f"default: {error}", (*at, "default")) from None
    return setting


def read_chosen(
    document: Document, at: Path, values: Mapping[str, Mapping[str, SettingValue]], stages: Mapping[str, StageSpec]
) -> tuple[ChosenSetting, ...]:
    """Settings of stages as bake.yaml has them.

    Args:
        at: where they stand in the file.

    Raises:
        ConfigError: there is no such setting, or it can't be that.
    """
    chosen = []
    for stage, names in values.items():
        for name, value in names.items():
            place = (*at, stage, name)
            try:
                setting = settings.named(stages, stage, name, where="")
                right = settings.checked(setting, value)
            except UsageError as error:
                raise document.error(error.what, place, expected=error.expected, hint=error.hint) from None
            except ValueError as error:
                raise document.error(f"{stage}.{name}: {error}", place, hint=settings.LISTED) from None
            chosen.append(ChosenSetting(stage=stage, name=name, value=right, where=document.where(place)))
    return tuple(chosen)
