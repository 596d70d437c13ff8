"""A batch's page in a real Chromium: sorted, filtered, a hundred thousand rows, and names that would be scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from builder.node.results.folder import folder_of
from tests.batch_folders import BatchFolder, begin, done, end, failed, item
from tests.e2e.conftest import ROOT
from tests.e2e.test_report import CONTRAST, Visit, browser, visit

__all__ = ["browser", "visit"]

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script> {{ 7 }} & \"' javascript:alert(3).wav"


def collect(batch: BatchFolder) -> Path:
    """Write the pages; the batch's."""
    subprocess.run(
        [sys.executable, str(ROOT / "build.py"), "batch", "collect", str(batch.folder)], check=True, capture_output=True
    )
    return batch.folder / "report.html"


def rows(page: Page) -> list[str]:
    """The recordings of the rows, from above."""
    return page.locator("#rows tbody td:nth-child(2)").all_inner_texts()


@pytest.fixture
def batch(tmp_path: Path) -> BatchFolder:
    """Recordings in every state, one of them with a name of an attacker's."""
    items = [item(f"tape {k:02}/Überraschung {k}.wav", seconds=100 - k) for k in range(6)]
    hostile = item(HOSTILE.replace("/", "∕"), seconds=1.0)
    made = BatchFolder(tmp_path / "tapes <b>").plan(*items, hostile, item("x.txt", unreadable="it is <i>not</i> media"))
    made.publish(items[0])
    made.publish(hostile)
    reason = "<script>alert(4)</script> the disk"
    made.journal(0, begin(0), done(items[0], took=7.0), done(hostile, took=9.5), failed(items[1], reason), end(8))
    return made


def test_failures_first_sorted_filtered_and_linked(batch: BatchFolder, visit: Visit) -> None:
    page = visit.open(collect(batch))
    expect(page.locator("#count")).to_have_text("8 rows")
    states = page.locator("#rows tbody td:nth-child(1)").all_inner_texts()
    assert states == ["failed", "unreadable", "missing", "missing", "missing", "missing", "done", "done"]
    heads = page.locator("#rows th").all_inner_texts()
    assert heads[1:] == ["Recording", "Sound", "Processor time", "Shard", "Reason"]
    page.get_by_role("button", name="Sound").click()
    assert page.locator("#rows th[aria-sort=ascending]").inner_text().startswith("Sound")
    assert rows(page)[-1] == "tape 00/Überraschung 0.wav"
    page.get_by_role("button", name="Sound").click()
    assert rows(page)[0] == "tape 00/Überraschung 0.wav"
    page.get_by_role("searchbox").fill("UBERRASCHUNG 3")
    expect(page.locator("#count")).to_have_text("1 of 8 rows")
    assert rows(page) == ["tape 03/Überraschung 3.wav"]
    page.get_by_role("searchbox").fill("disk demux")
    expect(page.locator("#count")).to_have_text("1 of 8 rows")
    page.get_by_role("searchbox").fill("")
    page.get_by_role("combobox").select_option(label="done")
    expect(page.locator("#count")).to_have_text("2 of 8 rows")
    page.get_by_role("link", name="Überraschung 0").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Überraschung 0.wav")
    expect(page.locator(".words").first).to_contain_text("Good morning, everyone.")


def test_hostile_names_do_nothing(batch: BatchFolder, visit: Visit) -> None:
    """They are shown as they are; no script runs, nothing is asked for; the page of the recording is no other."""
    page = visit.open(collect(batch))
    assert HOSTILE.replace("/", "∕") in rows(page)
    assert page.locator("#rows tbody img, #rows tbody script").count() == 0
    assert page.locator("h1").inner_text() == "tapes <b>"
    assert "<script>alert(4)</script> the disk" in page.locator("#why ~ .wide").inner_text()
    links = page.locator("#rows a").evaluate_all("all => all.map((a) => a.getAttribute('href'))")
    assert links
    assert all((batch.folder / link).is_file() for link in links)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_and_fits_a_phone(batch: BatchFolder, visit: Visit, scheme: str) -> None:
    """WCAG AA for every text; nothing to scroll sideways but the tables."""
    page = visit.open(collect(batch), width=360, scheme=scheme)
    checked = page.evaluate(CONTRAST)
    assert len(checked) > 30
    assert [c for c in checked if c[0] < c[1]] == []
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_hundred_thousand_rows(tmp_path: Path, visit: Visit) -> None:
    """They are there at once, sorted and searched while somebody types, and read a page at a time."""
    items = [item(f"archive/{k // 1000:03}/tape {k:06}.wav", seconds=k % 977, shard=k // 500) for k in range(100_000)]
    batch = BatchFolder(tmp_path / "archive").plan(*items)
    batch.journal(0, begin(0), *(done(one) for one in items[:50_000]), failed(items[-1]), end(8))
    page = visit.open(collect(batch))
    expect(page.locator("#count")).to_have_text("100000 rows")
    assert rows(page)[0] == "archive/099/tape 099999.wav"
    assert len(rows(page)) == 200
    expect(page.locator("#page")).to_have_text("page 1 of 500")
    page.get_by_role("button", name="Later rows").click()
    expect(page.locator("#page")).to_have_text("page 2 of 500")
    page.get_by_role("searchbox").fill("tape 012345")
    expect(page.locator("#count")).to_have_text("1 of 100000 rows")
    page.get_by_role("button", name="Recording").click()
    page.get_by_role("searchbox").fill("tape 0")
    expect(page.locator("#count")).to_have_text("100000 rows")
    assert rows(page)[0] == "archive/000/tape 000000.wav"
    assert not folder_of(batch.results, items[0].key).exists()
