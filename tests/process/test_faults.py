"""Seeded scenarios of a hub that misbehaves: no wrong file in the store, no failure without its reason.

python -m tests.process.test_faults 200     prints the table
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from builder.edges.weights.store import Store
from builder.errors import BakeError, IntegrityError, SourceError
from tests.hub.client import MODEL, QUICK, contents, fetch, pin_of, wrong_files
from tests.hub.server import KINDS, Fault, Hub

LIMITS = replace(QUICK, patience=2.0, chunk=32 << 10)
"""Patience for a machine that does other things meanwhile; only what stalls waits for its end."""

REASONS = {
    "drop": r"peer closed connection|incomplete|broke off|[Dd]isconnected",
    "reset": r"reset|[Dd]isconnected|peer closed|broke off|Broken pipe",
    "stall": r"timed? ?out",
    "busy": r"answered 429|is busy",
    "error": r"answered 50[0234]",
    "expired": r"answered 403 \(a link that has expired\?\)",
    "bytes": r"is not what models.lock says",
    "shorter": r"bytes in place of \d+",
    "longer": r"bytes in place of \d+|longer than",
    "page": r"bytes in place of \d+",
    "elsewhere": r"another range than was asked for",
    "gone": r"127\.0\.0\.1:9 could not be reached",
}
"""What the message has to say of a fault that doesn't pass."""

WRONG = {"bytes", "shorter", "longer", "page"}
"""Faults by which a source has another file: exit code 5, not to be tried again by itself."""


@dataclass
class Outcome:
    """What one scenario came to."""

    faults: list[str]
    """Kinds that a request has met."""
    fetched: bool
    wrong: int
    """Files in the store that are not the pin's."""
    unexplained: str
    """A failure that no fault explains, or one after the faults were over."""


def play(seed: int, root: Path) -> Outcome:
    """One scenario: some files, some faults, a fetch; then the hub behaves, and a second fetch has to end right."""
    chance = random.Random(seed)
    sizes = {f"f{i}_bin": chance.choice((0, 10, 1500, 31_000, 200_000, 700_000)) for i in range(chance.randint(1, 4))}
    files = contents(seed, **{**sizes, "f0_bin": chance.choice((90_000, 400_000))})
    pin = pin_of(files)
    hub = Hub(
        repos={"org/name": files},
        redirects=chance.random() < 0.8,
        ranges=chance.random() < 0.85,
        rate=chance.choice((0.0, 0.0, 4e6)),
    )
    # Every kind comes often enough: one scenario in eleven starts with each.
    for number in range(chance.randint(1, 4)):
        name = "f0.bin" if number == 0 else chance.choice(sorted(files))
        kind = KINDS[seed % len(KINDS)] if number == 0 else chance.choice(KINDS)
        host = "hub" if kind == "gone" or not hub.redirects else chance.choice(("content", "content", "hub"))
        hub.faults.setdefault(name, []).append(
            Fault(
                kind,
                host,
                after=chance.choice((0, 1, chance.randrange(files[name].size + 1))),
                times=chance.choice((1, 1, 2, 3, -1)),
                retry_after=chance.choice(("", "0", "1", "nonsense", "3600")),
            )
        )
    place = Store(root)
    unexplained = ""
    with hub:
        try:
            fetch(place, hub, pin, limits=LIMITS)
            fetched = True
        except (SourceError, IntegrityError) as error:
            fetched = False
            unexplained = explained(error, hub)
        except BaseException as error:  # noqa: BLE001 - not an error of ours: no user could act on it
            fetched, unexplained = False, f"{type(error).__name__}: {error}"
        wrong, kinds = len(wrong_files(root, pin)), sorted(hub.met)
        hub.faults.clear()
        try:
            fetch(place, hub, pin, limits=LIMITS)
        except BakeError as error:
            unexplained = unexplained or f"once the hub behaves: {error.what} {error.detail}"
    problems = place.verify(MODEL, pin, deep=True)
    return Outcome(kinds, fetched, wrong + len(wrong_files(root, pin)) + len(problems), unexplained)


def explained(error: BakeError, hub: Hub) -> str:
    """Empty when the message names a fault that a request has met; else the message."""
    kinds = sorted(hub.met)
    said = " ".join([error.what, *error.detail])
    fitting = [k for k in kinds if k in REASONS and re.search(REASONS[k], said)]
    right = any((k in WRONG) == isinstance(error, IntegrityError) for k in fitting)
    return "" if right and error.hint else f"{kinds}: {said} ({error.hint})"


def table(outcomes: list[Outcome]) -> str:
    """By kind of fault: scenarios, fetched at once, failed with the reason, wrong files, failures without a reason."""
    rows = [f"{'fault':<10} {'scenarios':>9} {'fetched':>8} {'explained':>10} {'wrong files':>12} {'unexplained':>12}"]
    for kind in (*KINDS, "all"):
        those = [o for o in outcomes if kind == "all" or kind in o.faults]
        fetched = sum(o.fetched for o in those)
        bad = sum(bool(o.unexplained) for o in those)
        explained_ = len(those) - fetched - sum(bool(o.unexplained) and not o.fetched for o in those)
        rows.append(
            f"{kind:<10} {len(those):>9} {fetched:>8} {explained_:>10} {sum(o.wrong for o in those):>12} {bad:>12}"
        )
    return "\n".join(rows)


def run(seeds: range, root: Path) -> list[Outcome]:
    """Eight at a time: most of a scenario is waiting."""
    with ThreadPoolExecutor(8) as several:
        return list(several.map(lambda seed: play(seed, root / str(seed)), seeds))


@pytest.mark.parametrize("count", [66, pytest.param(200, marks=pytest.mark.heavy)])
def test_whatever_a_hub_does_nothing_wrong_is_stored_and_every_failure_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    """Each kind of fault in six scenarios and more, alone and together; afterwards the same command ends right."""
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    outcomes = run(range(count), tmp_path)
    with capsys.disabled():
        print("\n" + table(outcomes))
    assert [o.unexplained for o in outcomes if o.unexplained] == []
    assert sum(o.wrong for o in outcomes) == 0
    assert {kind for o in outcomes for kind in o.faults} == set(KINDS)
    assert any(o.fetched for o in outcomes)
    assert not all(o.fetched for o in outcomes)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(table(run(range(int(sys.argv[1])), Path(folder))))
