"""Packets' times made fit for a copy: they never go back, and jumps of the recording's clock are taken out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from media import BACK, BEYOND


@dataclass(kw_only=True)
class Retiming:
    """Moves the packets of all streams by the same times, so that picture and sound stay together."""

    origin: float
    """Seconds on the recording's clock at which it begins."""
    whole: float
    """Seconds that it lasts by its header; 0: unknown."""
    shifts: Sequence[float]
    """Seconds by which times are moved after each jump of the clock, as the sound's were."""
    joined: bool = False
    """Whether the clock may jump forward within the recording, and nobody has listened to its sound yet."""
    _epoch: dict[int, int] = field(default_factory=dict)
    _end: dict[int, float] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)
    _found: list[float] = field(default_factory=list)

    def mend(self, packet: Any) -> None:
        """Give a packet with a decoding time its place; later ones of its stream must come after it.

        A stream's clock that goes back, or far ahead, has jumped: from then on its packets are moved as the sound was
        at that jump. What stands still or goes back a little follows the packet before.
        """
        stream, unit = packet.stream.index, packet.time_base
        time, length = float(packet.dts * unit), float((packet.duration or 0) * unit)
        end = self._end.get(stream)
        epoch = self._epoch.get(stream, 0)
        if end is not None:
            step = time + self._shift(epoch) - end
            if step < -BACK or (step > BEYOND and self._jumps_ahead(stream, step, end)):
                epoch = self._epoch[stream] = self._next(epoch, time)
        moved = round(self._shift(epoch) / unit)
        dts = packet.dts + moved
        late = 0
        if stream in self._last and dts <= self._last[stream]:
            late = self._last[stream] + 1 - dts
            if end is not None and length:  # a clock that stands still: one packet after the other
                late = max(late, round(end / unit) - dts)
        packet.dts = dts + late
        if packet.pts is not None:
            packet.pts += moved + late
        self._last[stream] = packet.dts
        self._end[stream] = float(packet.dts * unit) + length

    def _shift(self, epoch: int) -> float:
        known = [0.0, *self.shifts, *self._found]
        return known[min(epoch, len(known) - 1)]

    def _jumps_ahead(self, stream: int, step: float, end: float) -> bool:
        """Whether a step forward is a jump: other streams took it for one, or it leads beyond the recording's end."""
        epoch, known = self._epoch.get(stream, 0), [*self.shifts, *self._found]
        if epoch < len(known) and known[epoch] < self._shift(epoch) - BEYOND / 2:
            return True
        if self.joined and not any(other > end + BEYOND / 2 for other in self._end.values()):
            return True
        return bool(self.whole) and end + step > self.origin + self.whole + BEYOND

    def _next(self, epoch: int, time: float) -> int:
        """The epoch after a jump to ``time``; one that the sound doesn't have follows the packets so far."""
        if epoch >= len(self.shifts) + len(self._found):
            self._found.append(max(self._end.values()) - time)
        return epoch + 1
