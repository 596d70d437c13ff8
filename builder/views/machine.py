"""Results of the commands about this machine: the people whose voices it knows, the languages that it translates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from builder.core.config.settings import expected
from builder.core.config.types import SettingValue, StageSetting
from builder.core.machine import Hardware, Recommendation
from builder.core.text import format_size, table, visible
from builder.core.translation import Pair
from builder.core.voices import known as spec
from builder.program import command
from builder.receiver.jobs.translating import ANY
from builder.views import View
from builder.views.weights import FetchedModelJson, fetched_data

if TYPE_CHECKING:
    from builder.core.voices.known import Voice
    from builder.workflows.machine import HardwareFound, MachineChecked, MachineReady, SettingsListed
    from builder.workflows.pairs.commands import PairsListed
    from builder.workflows.voices.commands import VoiceAdded, VoicesListed, VoicesRemoved


class HardwareJson(TypedDict):
    """What this machine has, and what that recommends."""

    hardware: Hardware
    """This machine."""
    recommended: Recommendation
    """The settings that suit it."""


def _hardware_data(found: HardwareFound) -> HardwareJson:
    return {"hardware": found.hardware, "recommended": found.recommended}


def _hardware_text(found: HardwareFound) -> list[str]:
    hardware, advice = found.hardware, found.recommended
    gpus = [
        (f"GPU {k}", f"{gpu.name}, {format_size(gpu.memory)}, driver {gpu.driver}, CUDA {gpu.cuda}")
        for k, gpu in enumerate(hardware.gpus)
    ]
    rows = [
        ("system", f"{hardware.system} {hardware.machine}"),
        ("processor", f"{hardware.cpu}, {hardware.cores} cores, {hardware.threads} threads"),
        ("memory", format_size(hardware.memory)),
        *(gpus or [("GPU", "Apple MPS" if hardware.mps else "none")]),
        ("preset", f"{advice.preset}: {advice.reason}"),
        (
            "settings",
            f"{advice.device}, {advice.compute_type}, batch size {advice.batch_size}, {advice.threads} threads",
        ),
    ]
    return table(("WHAT", "FOUND"), rows)


HARDWARE = View(command="hardware", shape=HardwareJson, data=_hardware_data, lines=_hardware_text)


class BootstrapJson(TypedDict):
    """This machine after its set-up."""

    environment: str
    """The folder of the native Python environment."""
    hardware: Hardware
    """This machine."""
    recommended: Recommendation
    """The settings that suit it."""
    fetched: list[FetchedModelJson]
    """The models that were not in the store before."""
    missing_bytes: int
    """Bytes that the preset's models still lack; 0 when the machine is ready."""


def _bootstrap_data(ready: MachineReady) -> BootstrapJson:
    return {
        "environment": str(ready.environment),
        "hardware": ready.hardware,
        "recommended": ready.recommended,
        "fetched": [fetched_data(fetched) for fetched in ready.fetched],
        "missing_bytes": ready.missing_bytes,
    }


def _bootstrap_text(ready: MachineReady) -> list[str]:
    hardware = ready.hardware
    lines = [
        "environment: ready",
        f"machine: {hardware.cores} cores, {format_size(hardware.memory)}; recommended: {ready.recommended.preset}",
        f"models: {format_size(ready.missing_bytes)} left to fetch: models fetch"
        if ready.missing_bytes
        else "models: all there",
    ]
    return lines


class MachineCheckJson(TypedDict):
    """One check."""

    name: str
    """What was checked."""
    ok: bool
    """Whether it is well."""
    note: str
    """What the check saw."""
    hint: str
    """What to do when it isn't well; empty where nothing can be done."""


class DoctorJson(TypedDict):
    """What a job or a build needs, checked."""

    checks: list[MachineCheckJson]
    """In the order of the table."""


def _doctor_data(checked: MachineChecked) -> DoctorJson:
    return {
        "checks": [
            {"name": check.name, "ok": check.ok, "note": check.note, "hint": check.hint} for check in checked.checks
        ]
    }


def _doctor_text(checked: MachineChecked) -> list[str]:
    rows = [
        ("ok" if check.ok else "--", check.name, check.note, "" if check.ok else check.hint) for check in checked.checks
    ]
    return table(("", "CHECK", "FOUND", "NEXT"), rows)


BOOTSTRAP = View(command="bootstrap", shape=BootstrapJson, data=_bootstrap_data, lines=_bootstrap_text)
DOCTOR = View(command="doctor", shape=DoctorJson, data=_doctor_data, lines=_doctor_text)


class SettingJson(TypedDict):
    """One setting of a stage."""

    stage: str
    """The stage."""
    name: str
    """Its name: ``--set STAGE.NAME=VALUE``."""
    type: str
    """``int``, ``float``, ``str`` or ``bool``."""
    default: SettingValue
    """What it is unless somebody sets it; null: nothing."""
    value: SettingValue
    """What it is now."""
    set_by: str | None
    """Where it was set; null: nowhere."""
    machine: bool
    """Whether it suits the machine unless somebody sets it: ``run`` chooses."""
    minimum: float | None
    """The least that a number may be."""
    maximum: float | None
    """The most that a number may be."""
    choices: list[str]
    """All that a text may be; empty: any."""
    option: str | None
    """The option of ``run`` that sets it too."""
    instead: str | None
    """The option that sets it in the place of ``--set``."""
    meaning: str
    """What it does."""


class ProfileJson(TypedDict):
    """A named group of defaults and settings."""

    profile: str
    """Its name: ``--profile NAME``."""
    summary: str
    """What it is for, and where its values are from."""
    defaults: dict[str, Any]
    """Defaults that it changes."""
    settings: dict[str, SettingValue]
    """Settings that it changes, by ``STAGE.NAME``."""


class SettingsJson(TypedDict):
    """What can be set."""

    settings: list[SettingJson]
    """The stages' settings, in pipeline order."""
    profiles: list[ProfileJson]
    """The profiles of bake.yaml."""


def _settings_data(listed: SettingsListed) -> SettingsJson:
    return {
        "settings": [
            {
                "stage": each.stage,
                "name": each.name,
                "type": each.setting.type,
                "default": each.setting.default,
                "value": each.setting.default if each.chosen is None else each.chosen.value,
                "set_by": None if each.chosen is None else each.chosen.where,
                "machine": each.setting.machine,
                "minimum": each.setting.minimum if each.setting.type in ("int", "float") else None,
                "maximum": each.setting.maximum if each.setting.type in ("int", "float") else None,
                "choices": list(each.setting.choices),
                "option": each.setting.option,
                "instead": each.setting.instead,
                "meaning": each.setting.summary,
            }
            for each in listed.settings
        ],
        "profiles": [
            {
                "profile": profile.id,
                "summary": profile.summary,
                "defaults": dict(profile.defaults),
                "settings": {f"{chosen.stage}.{chosen.name}": chosen.value for chosen in profile.settings},
            }
            for profile in listed.profiles
        ],
    }


def setting_cells(stage: str, name: str, setting: StageSetting) -> tuple[str, str, str, str]:
    """A setting's name, what it may be, its default, and what it does; docs/settings.md has the same."""
    default = "by machine" if setting.machine else "" if setting.default is None else _plain(setting.default)
    option = setting.instead or setting.option
    return f"{stage}.{name}", expected(setting), default, setting.summary + (f" ({option})" if option else "")


def _plain(value: SettingValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _settings_text(listed: SettingsListed) -> list[str]:
    rows = []
    for each in listed.settings:
        name, may_be, default, meaning = setting_cells(each.stage, each.name, each.setting)
        now = default if each.chosen is None else f"{_plain(each.chosen.value)} ({each.chosen.where.split()[0]})"
        rows.append((name, now, may_be, meaning))
    profiles = [(profile.id, profile.summary) for profile in listed.profiles]
    return [*table(("SETTING", "VALUE", "MAY BE", "MEANING"), rows), "", *table(("PROFILE", "FOR"), profiles)]


SETTINGS = View(command="settings", shape=SettingsJson, data=_settings_data, lines=_settings_text)


class VoiceJson(TypedDict):
    """A known voice."""

    name: str
    """Whose it is."""
    model: str
    """Id of the embedding that it is of; jobs with another one don't know it."""
    seconds: float
    """Of speech that it was made of."""
    added: str
    """ISO 8601, UTC."""
    consent: str
    """What the person agreed to, as it was typed; may be empty."""


class VoicesListedJson(TypedDict):
    """The known voices."""

    voices: list[VoiceJson]
    """By their names."""
    strange: list[str]
    """Files among them that are no voices."""
    threshold: float
    """Cosine similarity from which a speaker gets a name."""
    false_accepts: float | None
    """Percent of comparisons with somebody else that reached the threshold, as measured."""
    false_rejects: float | None
    """Percent of comparisons with the same person that didn't, as measured."""


class VoiceAddedJson(TypedDict):
    """A voice that jobs know from now on."""

    voice: VoiceJson
    """The voice."""
    file: str
    """Where it is."""
    replaced: bool
    """Whether there was one of this name and model."""


class VoicesRemovedJson(TypedDict):
    """Voices that were forgotten, or would be."""

    voices: list[VoiceJson]
    """The voices."""
    removed: bool
    """False after a dry run."""


def _voice(voice: Voice) -> VoiceJson:
    return {
        "name": voice.name,
        "model": voice.model,
        "seconds": voice.seconds,
        "added": voice.added,
        "consent": voice.consent,
    }


def _voices_data(listed: VoicesListed) -> VoicesListedJson:
    return {
        "voices": [_voice(voice) for voice in listed.voices],
        "strange": [str(path) for path in listed.strange],
        "threshold": spec.THRESHOLD,
        "false_accepts": spec.FALSE_ACCEPTS,
        "false_rejects": spec.FALSE_REJECTS,
    }


def _voices_text(listed: VoicesListed) -> list[str]:
    strange = [f"not a voice: {visible(str(path))}" for path in listed.strange]
    if not listed.voices:
        return ["no voice is known", f"next: {command('voices add NAME FILE')}", *strange]
    rows = [(v.name, v.model, f"{v.seconds:.0f} s", v.added[:10], v.consent or "-") for v in listed.voices]
    return [*table(("NAME", "MODEL", "SPEECH", "ADDED", "CONSENT"), rows), "", *_rates(), *strange]


def _rates() -> list[str]:
    if spec.FALSE_ACCEPTS is None or spec.FALSE_REJECTS is None:
        return [
            f"a speaker gets a name from a similarity of {spec.THRESHOLD:g} on; how often that is wrong isn't measured yet"
        ]
    return [
        f"a speaker gets a name from a similarity of {spec.THRESHOLD:g} on. Measured with {spec.MEASURED}:",
        f"{spec.FALSE_ACCEPTS:g} % of strangers were taken for somebody, {spec.FALSE_REJECTS:g} % of voices not known again",
    ]


def _voice_added_data(added: VoiceAdded) -> VoiceAddedJson:
    return {"voice": _voice(added.voice), "file": str(added.file), "replaced": added.replaced}


def _voice_added_text(added: VoiceAdded) -> list[str]:
    voice = added.voice
    word = "known again" if added.replaced else "known"
    lines = [f"{visible(voice.name)} is {word} from now on, by {voice.seconds:.0f} s of speech", *_rates()]
    return lines if voice.consent else [*lines, "no consent is noted: --consent TEXT"]


def _voices_removed_data(removed: VoicesRemoved) -> VoicesRemovedJson:
    return {"voices": [_voice(voice) for voice in removed.voices], "removed": not removed.dry_run}


def _voices_removed_text(removed: VoicesRemoved) -> list[str]:
    word = "would be forgotten" if removed.dry_run else "forgotten"
    return [f"{visible(voice.name)} ({voice.model}): {word}" for voice in removed.voices]


VOICES = View(command="voices list", shape=VoicesListedJson, data=_voices_data, lines=_voices_text)
VOICE_ADDED = View(command="voices add", shape=VoiceAddedJson, data=_voice_added_data, lines=_voice_added_text)
VOICES_REMOVED = View(
    command="voices remove", shape=VoicesRemovedJson, data=_voices_removed_data, lines=_voices_removed_text
)


class PairJson(TypedDict):
    """From one language into another, by one backend."""

    source: str | None
    """Whisper's code; null for any language that is spoken."""
    target: str
    """The language of the translation."""
    backend: str
    """Who translates: whisper, nmt or apertium."""
    model: str | None
    """The model for translation that it needs."""
    ready: bool
    """True when a job can have it now."""
    chosen: bool
    """True when a job would choose it, unless translate.backends names another."""
    why: str
    """What does it, or what is lacking."""


def _pairs_data(found: PairsListed) -> list[PairJson]:
    chosen = _chosen_pairs(found)
    return [
        {
            "source": None if pair.source == ANY else pair.source,
            "target": pair.target,
            "backend": pair.backend,
            "model": pair.model or None,
            "ready": pair.ready,
            "chosen": k in chosen,
            "why": pair.why,
        }
        for k, pair in enumerate(found.pairs)
    ]


def _chosen_pairs(found: PairsListed) -> set[int]:
    """Those that are ready, and whose source no better one takes into the same language."""
    chosen: set[int] = set()
    better: dict[str, list[Pair]] = {}
    for k, pair in enumerate(found.pairs):
        if pair.ready:
            source = found.source or (None if pair.source == ANY else pair.source)
            others = better.setdefault(pair.target, [])
            if not any(other.takes(source, pair.target) for other in others):
                chosen.add(k)
            others.append(pair)
    return chosen


def _pairs_text(found: PairsListed) -> list[str]:
    if not found.pairs:
        return [f"nothing translates from {found.source}"]
    chosen = _chosen_pairs(found)
    rows: dict[tuple[str, ...], list[str]] = {}
    for k, pair in enumerate(found.pairs):
        rows.setdefault(_pair_row(pair, k in chosen), []).append(pair.target)
    head = ("FROM", "BACKEND", "READY", "WHY", "INTO")
    return [*table(head, [(*row, " ".join(targets)) for row, targets in rows.items()]), *_pair_ways(found)]


def _pair_row(pair: Pair, chosen: bool) -> tuple[str, ...]:
    """What pairs have in common that stand in one line."""
    ready = "chosen" if chosen else "yes" if pair.ready else "no"
    return ("any" if pair.source == ANY else pair.source, pair.backend, ready, pair.why)


def _pair_ways(found: PairsListed) -> list[str]:
    """What to type next."""
    ready = next((pair.target for pair in found.pairs if pair.ready), None)
    source = f"-s {found.source} " if found.source else ""
    return [command(f"run RECORDING {source}--to {ready}")] if ready else []


PAIRS = View(command="models list --pairs", shape=list[PairJson], data=_pairs_data, lines=_pairs_text)
