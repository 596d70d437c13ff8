"""Results of the commands about this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.machine import Hardware, Recommendation
from builder.core.text import format_size, table
from builder.views import View
from builder.views.weights import FetchedModelJson, fetched_data

if TYPE_CHECKING:
    from builder.workflows.machine import HardwareFound, MachineChecked, MachineReady


class HardwareJson(TypedDict):
    """What this machine has, and what that recommends."""

    hardware: Hardware
    """This machine."""
    recommended: Recommendation
    """The settings that suit it."""


def _hardware_data(found: HardwareFound) -> HardwareJson:
    return {"hardware": found.hardware, "recommended": found.recommended}


def _hardware_text(found: HardwareFound) -> str:
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


HARDWARE = View(command="hardware", shape=HardwareJson, data=_hardware_data, text=_hardware_text)


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


def _bootstrap_text(ready: MachineReady) -> str:
    hardware = ready.hardware
    lines = [
        "environment: ready",
        f"machine: {hardware.cores} cores, {format_size(hardware.memory)}; recommended: {ready.recommended.preset}",
        f"models: {format_size(ready.missing_bytes)} left to fetch: models fetch"
        if ready.missing_bytes
        else "models: all there",
    ]
    return "\n".join(lines)


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


def _doctor_text(checked: MachineChecked) -> str:
    rows = [
        ("ok" if check.ok else "--", check.name, check.note, "" if check.ok else check.hint) for check in checked.checks
    ]
    return table(("", "CHECK", "FOUND", "NEXT"), rows)


BOOTSTRAP = View(command="bootstrap", shape=BootstrapJson, data=_bootstrap_data, text=_bootstrap_text)
DOCTOR = View(command="doctor", shape=DoctorJson, data=_doctor_data, text=_doctor_text)
