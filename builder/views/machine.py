"""Results of the commands about this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.machine import Hardware, Recommendation
from builder.core.text import format_size, table
from builder.views import View

if TYPE_CHECKING:
    from builder.workflows.machine import HardwareFound


class HardwareJson(TypedDict):
    """What this machine has, and what that recommends."""

    hardware: Hardware
    recommended: Recommendation


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
