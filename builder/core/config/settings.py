"""The stages' settings: what each may be, and who has set it. Pure, and without pydantic."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from builder.core.config.types import ChosenSetting, SettingValue, StageSetting, StageSpec
from builder.errors import UsageError, did_you_mean
from builder.program import command

FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
"""Words for yes and no."""

LISTED = f"{command('settings')} lists all"
"""Where a person finds what there is."""

Chosen = Mapping[str, Mapping[str, ChosenSetting]]
"""Stage -> name -> what somebody chose."""


def expected(setting: StageSetting) -> str:
    """What a setting may be, as the end of a sentence."""
    if setting.choices:
        text = " or ".join(setting.choices)
    elif setting.type == "bool":
        text = "true or false"
    elif setting.type == "str":
        text = f"text of at most {setting.longest} characters"
    else:
        kind = "a whole number" if setting.type == "int" else "a number"
        text = f"{kind} from {setting.minimum:g} to {setting.maximum:g}"
    return f"{text}, or nothing" if setting.default is None else text


def checked(setting: StageSetting, value: object) -> SettingValue:
    """A setting's value of a file: numbers are no text, and the other way round.

    Raises:
        ValueError: it can't be the setting's; the text says why.
    """
    if value is None and setting.default is None:
        return None
    if setting.type == "bool" and isinstance(value, bool):
        return value
    if setting.type == "str" and isinstance(value, str | int) and not isinstance(value, bool):
        return _text(setting, str(value))
    if setting.type in ("int", "float") and isinstance(value, int | float) and not isinstance(value, bool):
        return _number(setting, value)
    raise ValueError(f"{_short(value)} is not {expected(setting)}")


def parsed(setting: StageSetting, text: str) -> SettingValue:
    """A setting's value as it is typed; nothing where the setting may be without a value.

    Raises:
        ValueError: it can't be the setting's; the text says why.
    """
    if not text.strip() and setting.default is None:
        return None
    if setting.type == "str":
        return _text(setting, text)
    if setting.type == "bool" and text.strip().lower() in FLAGS:
        return FLAGS[text.strip().lower()]
    if setting.type != "bool" and re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", text.strip()):
        return _number(setting, float(text))
    raise ValueError(f"{_short(text)} is not {expected(setting)}")


def _text(setting: StageSetting, text: str) -> str:
    if setting.choices and text not in setting.choices:
        raise ValueError(f"{_short(text)} is not {expected(setting)}")
    if len(text) > setting.longest:
        raise ValueError(f"{len(text)} characters are too many for {expected(setting)}")
    if any(ord(char) < 32 and char not in "\t\n" for char in text):
        raise ValueError("control characters are not text")
    return text


def _number(setting: StageSetting, value: float) -> int | float:
    whole = setting.type == "int"
    low, high = setting.minimum, setting.maximum
    if not math.isfinite(value) or (whole and value != int(value)) or not low <= value <= high:
        raise ValueError(f"{value:g} is not {expected(setting)}")
    return int(value) if whole else float(value)


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 60 else text[:59] + "…"


def named(stages: Mapping[str, StageSpec], stage: str, name: str, *, where: str) -> StageSetting:
    """The setting of a stage.

    Raises:
        UsageError: there is none of that name, or it is set in another way.
    """
    if stage not in stages:
        close = did_you_mean(stage, stages)
        raise UsageError(f'no stage "{stage}"', where=where, expected=", ".join(stages), hint=_hint(close, LISTED))
    settings = stages[stage].settings
    if name not in settings:
        raise UsageError(
            f'stage {stage} has no setting "{name}"',
            where=where,
            expected=", ".join(settings) or "nothing: it has no settings",
            hint=_hint(did_you_mean(name, settings), f"{command('settings')} {stage} lists them"),
        )
    if instead := settings[name].instead:
        raise UsageError(f"{stage}.{name} is not set by itself", where=where, hint=f"use {instead}")
    return settings[name]


def _hint(close: str | None, listed: str) -> str:
    return f"{close} {listed}" if close else listed


def from_words(words: Iterable[str], stages: Mapping[str, StageSpec], *, where: str) -> tuple[ChosenSetting, ...]:
    """Settings that were typed as ``stage.name=value``.

    Args:
        where: the option or the variable, for errors.

    Raises:
        UsageError: one of them is not a setting, not of this form, or there twice.
    """
    chosen: dict[tuple[str, str], ChosenSetting] = {}
    for word in words:
        match = re.fullmatch(r"\s*([^.=\s]+)\.([^.=\s]+)\s*=(.*)", word, re.DOTALL)
        if match is None:
            raise UsageError(f"{_short(word)} is not a setting", where=where, expected="STAGE.NAME=VALUE", hint=LISTED)
        stage, name, text = match.groups()
        setting = named(stages, stage, name, where=where)
        if (stage, name) in chosen:
            raise UsageError(f"{stage}.{name} is there twice", where=where, hint="keep one of them")
        try:
            value = parsed(setting, text)
        except ValueError as error:
            raise UsageError(f"{stage}.{name}: {error}", where=where, hint=_near(setting, text)) from None
        chosen[stage, name] = ChosenSetting(stage=stage, name=name, value=value, where=f"{where} {stage}.{name}")
    return tuple(chosen.values())


def _near(setting: StageSetting, text: str) -> str:
    return _hint(did_you_mean(text, setting.choices), LISTED)


def from_variable(text: str, stages: Mapping[str, StageSpec], *, variable: str) -> tuple[ChosenSetting, ...]:
    """Settings in a variable: words as in a shell, so that a value with spaces stands in quotes.

    Raises:
        UsageError: the quotes don't match, or one of them is not a setting.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{variable} can't be read: {error}", where="environment") from None
    return from_words(words, stages, where=variable)


def together(*groups: Sequence[ChosenSetting]) -> Chosen:
    """Groups of settings as one; a later group wins."""
    chosen: dict[str, dict[str, ChosenSetting]] = {}
    for setting in (setting for group in groups for setting in group):
        chosen.setdefault(setting.stage, {})[setting.name] = setting
    return MappingProxyType({stage: MappingProxyType(names) for stage, names in chosen.items()})
