"""A job's page in a real Chromium: heard, searched, steered by keyboard, read in light and dark, saved again."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.conftest import ROOT

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Made:
    """A finished job, and where its siblings go."""

    folder: Path

    @property
    def whole(self) -> Any:
        return json.loads((self.folder / "output/dialogue.json").read_text())

    @property
    def words(self) -> list[dict[str, Any]]:
        return [w for s in self.whole["segments"] for w in s["words"]]

    @functools.cache  # noqa: B019 - a handful of jobs
    def report(self, *options: str) -> Path:
        """Write the page, once; the file."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "build.py"), "jobs", "report", self.folder.name, "--json", *options],
            env={**os.environ, "BAKE_JOBS": str(self.folder.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return Path(json.loads(done.stdout)["file"])

    def copy(self, name: str) -> Made:
        """The same job under another id, to be changed."""
        made = Made(self.folder.with_name(name))
        shutil.copytree(self.folder, made.folder)
        spec = made.spec
        spec["id"] = name
        made.write_spec(spec)
        return made

    @property
    def spec(self) -> Any:
        return yaml.safe_load((self.folder / "job.yaml").read_text())

    def write_spec(self, spec: Any) -> None:
        (self.folder / "job.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))

    def write_transcript(self, whole: Any) -> None:
        """What the subtitles stage wrote, from which the page is made."""
        (self.folder / "work/subtitles/01.transcript.json").write_text(json.dumps(whole))


@pytest.fixture(scope="module")
def made(transcribed: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A copy of the transcribed example: pages are written into it, and siblings beside it."""
    folder = tmp_path_factory.mktemp("jobs") / transcribed.name
    shutil.copytree(transcribed, folder)
    return Made(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert Path(CHROMIUM).exists(), "these tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


class Visit:
    """Pages of one test; at the end none of them may have complained, or asked for anything."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.said: list[str] = []
        self.asked: list[str] = []

    def open(self, file: Path, *, width: int = 1280, scheme: Any = "light", fragment: str = "") -> Page:
        context = self.browser.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme)
        page = context.new_page()
        page.on("console", lambda m: self.said.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: self.said.append(str(e)))
        page.on("dialog", lambda d: self.said.append(d.message))
        page.on("request", lambda r: self.asked.append(r.url))
        page.goto(file.as_uri() + fragment)
        return page


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """No word on the console, no request but for the page itself and what it has inside."""
    found = Visit(browser)
    yield found
    for context in browser.contexts:
        context.close()
    assert not found.said
    assert [u for u in found.asked if not re.match(r"blob:|data:image/svg|file:.*\.html(#|$)", u)] == []


def now(page: Page) -> float:
    return float(page.evaluate("document.querySelector('.recording:not([hidden]) .media').currentTime"))


def until(page: Page, true: str) -> None:
    """Wait for an expression. Playwright's own way evaluates text inside the page, which the policy forbids."""
    end = time.monotonic() + 20
    while not page.evaluate(true):
        assert time.monotonic() < end, true
        page.wait_for_timeout(30)


def test_words_light_up_while_it_plays(made: Made, visit: Visit) -> None:
    """The word that is marked is the word that is said, by the times of the result; it moves on, and stops with a pause."""
    page = visit.open(made.report())
    page.get_by_role("button", name="Play", exact=True).click()
    seen = page.evaluate(
        """async () => {
            const media = document.querySelector(".media"), spans = [...document.querySelectorAll(".words span")];
            const seen = [];
            while (media.currentTime < 1.9) {
                await new Promise(requestAnimationFrame);
                const at = media.currentTime;
                await new Promise(requestAnimationFrame);
                seen.push([at, media.currentTime, spans.findIndex((span) => span.classList.contains("now"))]);
            }
            return seen;
        }"""
    )
    page.get_by_role("button", name="Pause").click()
    words = made.words
    marked = set()
    for before, after, k in seen:
        if k >= 0:
            marked.add(k)
            assert words[k]["start"] - 0.1 <= after
            assert before <= words[k + 1]["start"] + 0.1
    assert {0, 1, 2} <= marked
    at = now(page)
    page.wait_for_timeout(300)
    assert now(page) == at
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()


def test_a_click_seeks(made: Made, visit: Visit) -> None:
    """On a word, on a paragraph's time (which plays), and on the map of who speaks when."""
    page = visit.open(made.report())
    words = made.words
    k = next(k for k, w in enumerate(words) if w["word"].strip() == "market")
    page.locator(".words span").nth(k).click()
    assert now(page) == pytest.approx(words[k]["start"], abs=0.01)
    expect(page.locator(".words .now")).to_have_text("market")
    expect(page.get_by_role("slider", name="Position")).to_have_attribute("aria-valuenow", str(int(words[k]["start"])))
    page.get_by_role("button", name="Play from 0:12").click()
    until(page, "document.querySelector('.media').currentTime > 13")
    page.get_by_role("button", name="Pause").click()
    box = page.locator(".map").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 5)
    assert now(page) == pytest.approx(made.whole["duration"] / 2, abs=0.2)


def highlighted(page: Page) -> list[str]:
    """What the search coloured, letter by letter."""
    found: list[str] = page.evaluate(
        """() => [...CSS.highlights.get("hits") ?? []].map((found) => {
            const range = document.createRange();
            range.setStart(found.startContainer, found.startOffset);
            range.setEnd(found.endContainer, found.endOffset);
            return range.toString();
        })"""
    )
    return found


def test_search_finds_counts_and_goes_round(made: Made, visit: Visit) -> None:
    """Whatever the case and the accents, across words; Enter goes on, with shift back, Escape ends it."""
    page = visit.open(made.report())
    field, count = page.get_by_role("searchbox"), page.locator(".count")
    field.fill("MÁRKET")
    expect(count).to_have_text("1 of 2")
    assert highlighted(page) == ["market", "market"]
    field.press("Enter")
    expect(count).to_have_text("2 of 2")
    expect(page.locator(".words .here")).to_have_text("market")
    field.press("Enter")
    expect(count).to_have_text("1 of 2")
    field.press("Shift+Enter")
    expect(count).to_have_text("2 of 2")
    page.get_by_role("button", name="Previous match").click()
    expect(count).to_have_text("1 of 2")
    field.fill("the")
    expect(count).to_have_text(re.compile(r"^\d of [3-9]$"))
    at, _, total = map(int, count.inner_text().replace("of", "0").split())
    field.press("Shift+Enter")
    expect(count).to_have_text(f"{(at - 2) % total + 1} of {total}")
    field.fill("fish mark")
    expect(count).to_have_text("1 of 1")
    assert highlighted(page) == ["fish mark"]
    assert page.locator(".words .here").all_inner_texts() == ["fish", "market"]
    field.fill("<b>")
    expect(count).to_have_text("no match")
    expect(page.get_by_role("button", name="Next match")).to_be_disabled()
    field.press("Escape")
    expect(count).to_have_text("")
    assert highlighted(page) == []


def test_everything_is_reached_by_keyboard(made: Made, visit: Visit) -> None:
    """Each stop of the tab key shows where it is; space and arrows play, seek and walk through the words."""
    page = visit.open(made.report())
    stops = []
    for _ in range(40):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
                const at = document.activeElement, style = getComputedStyle(at);
                const name = at.getAttribute("aria-label") || at.textContent.trim().slice(0, 30);
                return at === document.body ? null : [name, style.outlineStyle, style.outlineWidth];
            }"""
        )
        if stop is None:
            break
        assert stop[1] == "solid", stop
        assert float(stop[2].removesuffix("px")) >= 2, stop
        stops.append(stop[0])
    assert stops[:2] == ["Skip to the content", "Transcript"]
    wanted = {
        "Position",
        "Play",
        "Speed",
        "Mute",
        "Name of Speaker 1",
        "Search the transcript",
        made.words[0]["word"].strip(),
    }
    assert wanted <= set(stops)
    assert len(stops) < 35  # the words are one stop, not eighty

    page.keyboard.press("Tab")  # round again, to the skip link
    page.get_by_role("link", name="Skip to the content").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    scrolled = page.evaluate("scrollY")
    page.keyboard.press("ArrowRight")
    assert now(page) == 5
    page.keyboard.press("ArrowLeft")
    assert now(page) == 0
    page.keyboard.press("Space")
    until(page, "document.querySelector('.media').currentTime > 0.2")
    page.keyboard.press("Space")
    assert page.evaluate("document.querySelector('.media').paused")
    assert page.evaluate("scrollY") == scrolled  # space didn't scroll as well

    page.locator(".words span").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == made.words[1]["word"].strip()
    assert page.evaluate("document.activeElement.role") == "button"
    assert page.locator(".words [role=button]").count() == 1
    page.keyboard.press("ArrowDown")
    second = next(s for s in made.whole["segments"] if s["speaker"] == "S2")["words"][0]
    assert page.evaluate("document.activeElement.textContent") == second["word"].strip()
    page.keyboard.press("Enter")
    until(page, f"document.querySelector('.media').currentTime > {second['start']}")
    page.keyboard.press("Space")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.get_by_role("tab", name="Transcript").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="Stages")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_be_hidden()


CONTRAST = """
() => {
    const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const read = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
    const over = (top, below) => [0, 1, 2].map((k) => top[k] * top[3] + below[k] * (1 - top[3]));
    const behind = (at) => {
        const layers = [];
        for (; at; at = at.parentElement) layers.push(read(getComputedStyle(at).backgroundColor));
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
    };
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT);
    for (let at = walk.nextNode(); at; at = walk.nextNode()) {
        const text = [...at.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!text && !at.matches("input:not([type=checkbox]), select")) continue;
        if (!at.checkVisibility({ visibilityProperty: true }) || at.matches(":disabled, option, script")) continue;
        const style = getComputedStyle(at), ground = behind(at);
        const [a, b] = [light(over(read(style.color), ground)), light(ground)];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
        const name = `${at.tagName}.${at.className} ${at.textContent.slice(0, 20)}`;
        found.push([Math.round(ratio * 100) / 100, large ? 3 : 4.5, name]);
    }
    return found;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_and_fits_a_phone(made: Made, visit: Visit, scheme: str) -> None:
    """WCAG AA for every text in both parts of the page, the spoken and the doubtful word too; nothing to scroll sideways."""
    page = visit.open(made.report(), width=360, scheme=scheme)
    page.locator(".words .d2").first.click()
    page.get_by_role("searchbox").fill("the")
    grounds = set()
    for part in ("Transcript", "How it was made"):
        page.get_by_role("tab", name=part).click()
        page.wait_for_timeout(250)  # colours of words change softly
        checked = page.evaluate(CONTRAST)
        assert len(checked) > 40
        assert [c for c in checked if c[0] < c[1]] == []
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert len(grounds) == 1
    assert (sum(map(int, re.findall(r"\d+", grounds.pop()))) > 384) == (scheme == "light")
    page.emulate_media(reduced_motion="reduce", forced_colors="active")
    page.get_by_role("tab", name="Transcript").click()
    expect(page.locator(".words span").first).to_be_visible()


def test_controls_have_names_and_ids_are_their_own(made: Made, visit: Visit) -> None:
    """What a screen reader needs: a name for each control, references that lead somewhere, a language, one main heading."""
    page = visit.open(made.report())
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, [role=slider], [role=tabpanel], section, aside")]
            .filter((at) => !(at.getAttribute("aria-label") || at.textContent.trim() || at.closest("label")))
            .map((at) => at.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    lost = page.evaluate(
        """() => ["aria-controls", "aria-labelledby", "aria-describedby"].flatMap((name) =>
            [...document.querySelectorAll(`[${name}]`)].filter((at) => !document.getElementById(at.getAttribute(name))))
            .map((at) => at.outerHTML.slice(0, 80))"""
    )
    assert lost == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((at) => at.id)")
    assert len(ids) == len(set(ids))
    assert page.evaluate("[document.documentElement.lang, document.querySelector('.transcript').lang]") == ["en", "en"]
    assert page.locator("h1").count() == 1


def test_downloads_are_the_output_files(made: Made, visit: Visit) -> None:
    """Each format, byte for byte, under its own name: out of the page, not from a disk."""
    page = visit.open(Path(shutil.copy(made.report(), made.folder.parent / "away.html")))
    links = page.locator(".files a")
    files = {p.name: p.read_bytes() for p in (made.folder / "output").iterdir()}
    assert links.count() == len(files) == 7
    for k in range(len(files)):
        with page.expect_download() as caught:
            links.nth(k).click()
        assert caught.value.path().read_bytes() == files.pop(caught.value.suggested_filename)
    page.locator(".words span").first.click()
    page.get_by_role("button", name="Play", exact=True).click()
    until(page, "document.querySelector('.media').currentTime > 0.6")


def test_subtitles_show_over_the_film(made: Made, visit: Visit) -> None:
    """Those of the WebVTT file, at their times."""
    page = visit.open(made.report())
    page.get_by_role("button", name="Subtitles").click()
    cues = "[...document.querySelector('.media').textTracks[0].cues]"
    until(page, f"{cues}.length > 0")
    vtt = (made.folder / "output/dialogue.vtt").read_text()
    assert page.evaluate(f"{cues}.map((cue) => cue.text)") == [
        b.partition("\n")[2].strip() for b in vtt.split("\n\n")[1:]
    ]
    minutes, seconds = vtt.split("\n")[2].split(" --> ")[0].split(":")[1:]
    assert page.evaluate(f"{cues}[0].startTime") == 60 * int(minutes) + float(seconds)
    assert page.evaluate("document.querySelector('.media').textTracks[0].mode") == "showing"


def test_there_is_one_film_in_the_page(made: Made, visit: Visit) -> None:
    """The one with subtitles is played and saved from one copy."""
    file = made.report()
    film = base64.b64encode((made.folder / "output/dialogue.mp4").read_bytes())
    assert file.read_bytes().count(film) == 1
    assert base64.b64encode((made.folder / "input/01.mp4").read_bytes()[:3000]) not in file.read_bytes()
    page = visit.open(file)
    until(page, "document.querySelector('.media').readyState > 0")
    with page.expect_download() as saving:
        page.get_by_role("link", name="MP4").click()
    assert Path(saving.value.path()).read_bytes() == (made.folder / "output/dialogue.mp4").read_bytes()


def test_a_clip_s_words_play_where_they_are_in_the_clip(made: Made, visit: Visit) -> None:
    """The text has the recording's times, the film begins with the clip."""
    clip = made.copy("20261123-000000-clip-0009")
    for path in (clip.folder / "work/subtitles/01.transcript.json", clip.folder / "output/dialogue.json"):
        whole = json.loads(path.read_text())
        whole["clip"] = {"start": 600.0, "lead": 0.0, "offset": 600.0}
        for segment in whole["segments"]:
            for word in segment["words"]:
                word["start"], word["end"] = word["start"] + 600, word["end"] + 600
        path.write_text(json.dumps(whole))
    page = visit.open(clip.report())
    word = page.locator(".words span").nth(5)
    until(page, "document.querySelector('.media').readyState > 0")
    word.click()
    assert now(page) == pytest.approx(made.words[5]["start"], abs=0.05)
    expect(word).to_have_class(re.compile("now"))
    expect(page.locator(".time")).to_have_text(re.compile(r"^10:0\d / 10:31$"))


def test_the_newest_report_is_of_a_job_with_results(made: Made) -> None:
    """A mistyped run leaves a job in which nothing was done."""
    empty = made.copy("20991231-000000-empty-0001")
    shutil.rmtree(empty.folder / "work")
    done = subprocess.run(
        [sys.executable, str(ROOT / "build.py"), "jobs", "report", "--json"],
        env={**os.environ, "BAKE_JOBS": str(made.folder.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "empty" not in json.loads(done.stdout)["file"]
    shutil.rmtree(empty.folder)


def test_names_of_the_page_are_saved_for_the_job(made: Made, visit: Visit, tmp_path: Path) -> None:
    """``jobs name --from`` reads them, and then the page and every file has them."""
    job = made.copy("20261123-000000-named-0008")
    page = visit.open(job.report())
    save = page.get_by_role("link", name="Save names")
    expect(save).to_be_hidden()
    page.get_by_role("textbox", name="Name of Speaker 2").fill("Ada <b>")
    page.get_by_role("textbox", name="Name of Speaker 2").blur()
    with page.expect_download() as saving:
        save.click()
    file = tmp_path / saving.value.suggested_filename
    saving.value.save_as(file)
    assert file.name == f"{job.folder.name}-names.json"
    done = subprocess.run(
        [sys.executable, str(ROOT / "build.py"), "jobs", "name", job.folder.name, "--from", str(file)],
        env={**os.environ, "BAKE_JOBS": str(job.folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Ada ‹b›: " in (job.folder / "output/dialogue.srt").read_text()
    again = visit.open(job.report("--embed", "40"))
    expect(again.get_by_role("textbox", name="Name of Ada <b>")).to_have_value("Ada <b>")
    expect(again.get_by_role("link", name="Save names")).to_be_hidden()


def test_word_times_are_webvtt_to_a_browser(made: Made, visit: Visit) -> None:
    """Chromium's own reader finds every cue, its text, and a time stamp for each word that begins within it."""
    job = made.copy("20261123-000000-words-0007")
    spec = job.spec
    next(s for s in spec["stages"] if s["name"] == "subtitles")["settings"]["formats"] = "words.vtt,vtt,json"
    job.write_spec(spec)
    subprocess.run(
        [sys.executable, str(ROOT / "build.py"), "run", job.folder.name],
        env={**os.environ, "BAKE_JOBS": str(job.folder.parent)},
        check=True,
        capture_output=True,
    )
    text = (job.folder / "output/dialogue.words.vtt").read_text()
    page = visit.browser.new_context().new_page()
    cues = page.evaluate(
        """async (text) => {
            const track = document.createElement("track"), media = document.createElement("video");
            track.src = URL.createObjectURL(new Blob([text], {type: "text/vtt"}));
            media.append(track);
            const loaded = new Promise((resolve, reject) => { track.onload = resolve; track.onerror = reject; });
            track.track.mode = "hidden";
            await loaded;
            const stamps = (node) => [...node.childNodes].flatMap((c) =>
                c.nodeType === Node.PROCESSING_INSTRUCTION_NODE ? [c.data] : stamps(c));
            return [...track.track.cues].map((c) =>
                [c.startTime, c.endTime, c.getCueAsHTML().textContent, stamps(c.getCueAsHTML())]);
        }""",
        text,
    )
    plain = [b.split("\n", 1) for b in (job.folder / "output/dialogue.vtt").read_text().split("\n\n")[1:]]
    assert [c[2] for c in cues] == [re.sub("<[^>]*>", "", said).strip() for _, said in plain]
    words = iter(made.words)
    for start, end, said, stamps in cues:
        assert start < end
        starts = [next(words)["start"] for _ in said.split()]
        assert len(stamps) == sum(at > start for at in starts)  # a cue may begin before or after its first words


def test_speakers_can_be_hidden_and_named(made: Made, visit: Visit) -> None:
    """On this page only; a name is still there when the page is opened again, and is never markup."""
    file = made.report()
    page = visit.open(file)
    page.get_by_role("checkbox", name="Show Speaker 2").uncheck()
    expect(page.locator(".turn[data-speaker=S2]").first).to_be_hidden()
    page.get_by_role("searchbox").fill("market")  # only Speaker 2 says it
    expect(page.locator(".count")).to_have_text("no match")
    page.get_by_role("checkbox", name="Show Speaker 2").check()
    expect(page.locator(".count")).to_have_text("1 of 2")
    name = page.get_by_role("textbox", name="Name of Speaker 1")
    name.fill("Zoë <b>")
    name.press("Enter")
    expect(page.locator(".turn[data-speaker=S1] .name").first).to_have_text("Zoë <b>")
    page.reload()
    expect(page.locator(".turn[data-speaker=S1] .name").first).to_have_text("Zoë <b>")
    name.fill("")
    name.press("Enter")
    expect(page.locator(".turn[data-speaker=S1] .name").first).to_have_text("Speaker 1")


def test_what_the_model_was_unsure_of_is_shown(made: Made, visit: Visit) -> None:
    """Words below 50 % are marked; one button goes from one to the next, and says how sure it was."""
    page = visit.open(made.report())
    unsure = [w for w in made.words if w["probability"] < 0.5]
    assert unsure
    assert page.locator(".words .d2").all_inner_texts() == [w["word"].strip() for w in unsure]
    ground = "getComputedStyle(document.querySelector('.words .d2')).backgroundColor"
    marked = page.evaluate(ground)
    page.get_by_role("button", name="Next unsure").click()
    expect(page.locator("#said")).to_contain_text(f"{round(unsure[0]['probability'] * 100)} % sure")
    assert now(page) == pytest.approx(unsure[0]["start"], abs=0.01)
    page.mouse.move(0, 0)
    page.get_by_role("button", name="Confidence").click()
    until(page, f"{ground} !== {json.dumps(marked)}")


def test_how_it_was_made_is_told(made: Made, visit: Visit) -> None:
    """Each stage with its time, each model with its digest; the address of the part is the page's own."""
    page = visit.open(made.report(), fragment="#job")
    table = page.locator(".timeline tbody tr")
    assert table.locator("th").all_inner_texts() == [s["name"] for s in made.spec["stages"]]
    expect(table.nth(2)).to_contain_text(" s")
    assert table.nth(2).locator("rect.all").bounding_box()["width"] > 50  # type: ignore[index]
    for stage in made.spec["stages"]:
        for use in stage["models"].values():
            expect(page.get_by_role("row").filter(has_text=use["digest"])).to_contain_text(use["id"])
    expect(page.locator("#job")).to_contain_text("language English")


def test_hostile_names_and_words_do_nothing(made: Made, visit: Visit) -> None:
    """They are read, not run: no dialog, no image, no word on the console."""
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{7*7}}<!--<script>"
    hostile = made.copy("20261123-000000-hostile-0001")
    spec, whole = hostile.spec, hostile.whole
    name = spec["inputs"][0]["name"] = f"{bad.replace('/', '')}.mp4"  # a file's; with a slash the job is refused
    next(s for s in spec["stages"] if s["name"] == "asr")["settings"]["initial_prompt"] = bad
    hostile.write_spec(spec)
    whole["segments"][0]["words"][0]["word"] = f" {bad}"
    for segment in whole["segments"]:
        segment["speaker"] = bad
    hostile.write_transcript(whole)
    with (hostile.folder / "events.jsonl").open("a") as events:
        events.write(json.dumps({"t": 1.0, "event": "fail", "message": bad}) + "\n")
    page = visit.open(hostile.report())
    assert page.locator(".words span").first.inner_text() == bad
    assert page.locator("h1").inner_text() == name
    assert page.locator(".turn .name").first.inner_text() == bad
    assert bad in page.locator(".notice.bad").inner_text()
    page.get_by_role("searchbox").fill("</script>")
    expect(page.locator(".count")).to_have_text("1 of 2")
    page.get_by_role("tab", name="How it was made").click()
    expect(page.locator(".card", has_text="initial_prompt")).to_contain_text(bad)
    assert page.locator("img, script[src]").count() == 0
    assert page.locator("script:not([type])").count() == 1


def test_the_policy_stops_what_would_ask_for_something(made: Made, browser: Browser) -> None:
    """Were a script or a request to slip in all the same, the browser refuses it."""
    page = Visit(browser).open(made.report())
    blocked: list[str] = page.evaluate(
        """async () => {
            const blocked = [];
            document.addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
            await fetch("https://example.invalid/").catch(() => {});
            const image = new Image();
            image.src = "https://example.invalid/a.png";
            try { document.body.insertAdjacentHTML("beforeend", "<p>"); } catch { /* refused */ }
            try { document.body.setAttribute("onclick", "window.ran = true"); } catch { /* refused */ }
            document.body.click();
            const script = document.createElement("script");
            script.append("window.ran = true");
            document.body.append(script);
            await new Promise((resolve) => setTimeout(resolve, 200));
            return [...blocked, String(window.ran)];
        }"""
    )
    page.context.close()
    assert {"connect-src", "img-src", "require-trusted-types-for"} <= set(blocked)
    assert blocked[-1] == "undefined"


def test_several_recordings_are_one_page_and_play_from_beside_it(made: Made, visit: Visit) -> None:
    """A film and a sound, one at a time; with ``--embed 0`` both are read from the job's folder, and from nowhere else."""
    two = made.copy("20261123-000000-two-0002")
    spec = two.spec
    second = {**spec["inputs"][0], "id": "02", "name": "only sound.wav", "path": "input/02.wav", "output": "only sound"}
    spec["inputs"].append(second)
    two.write_spec(spec)
    shutil.copy(two.folder / "work/demux/01.wav", two.folder / "input/02.wav")
    (two.folder / "work/demux/02.json").write_text(
        json.dumps({"duration": 31.25, "video": False, "streams": [{"type": "audio", "codec": "pcm_s16le"}]})
    )
    shutil.copy(two.folder / "output/dialogue.json", two.folder / "output/only sound.json")
    page = visit.open(two.report("--embed", "0"))
    page.get_by_role("button", name="Play", exact=True).click()
    until(page, "document.querySelector('#r01 .media').currentTime > 0.6")
    page.get_by_role("tab", name="only sound.wav").click()
    assert page.evaluate("document.querySelector('#r01 .media').paused")
    page.get_by_role("button", name="Play", exact=True).click()
    until(page, "document.querySelector('#r02 .media').currentTime > 0.6")
    page.get_by_role("button", name="Pause").click()
    assert page.locator("#r02 .words .now").count() == 1
    beside = {u.rpartition("/20261123-000000-two-0002/")[2] for u in visit.asked if not u.endswith(".html")}
    assert beside == {"output/dialogue.mp4", "input/02.wav"}
    visit.asked.clear()


def test_a_film_that_browsers_dont_play_is_heard_all_the_same(made: Made, visit: Visit) -> None:
    """Broken or unknown to this browser: the sound that was transcribed takes its place, and the page says so."""
    broken = made.copy("20261123-000000-broken-0003")
    spec = broken.spec
    (broken.folder / "input/01.mp4").unlink()
    (broken.folder / "output/dialogue.mp4").unlink()
    (broken.folder / "input/01.mkv").write_bytes(b"no film at all" * 100)
    spec["inputs"][0] |= {"path": "input/01.mkv", "name": "odd.mkv"}
    broken.write_spec(spec)
    page = visit.open(broken.report())
    expect(page.locator(".trouble")).to_contain_text("you hear the sound that was transcribed")
    page.get_by_role("button", name="Play", exact=True).click()
    until(page, "document.querySelector('.media').currentTime > 0.6")
    expect(page.get_by_role("button", name="Full screen")).to_be_hidden()


def test_a_job_that_has_not_run_has_a_page_too(made: Made, visit: Visit) -> None:
    """It says what is missing and what to type; nothing of it breaks."""
    new = made.copy("20261123-000000-new-0004")
    for name in ("work", "output"):
        shutil.rmtree(new.folder / name)
    (new.folder / "events.jsonl").unlink()
    page = visit.open(new.report())
    expect(page.get_by_text("This recording has not been transcribed yet.")).to_be_visible()
    expect(page.locator(".state.prepared")).to_be_visible()
    page.get_by_role("tab", name="How it was made").click()
    assert page.locator(".timeline .state").all_inner_texts() == ["not run yet"] * 7


def test_two_hours_are_laid_out_only_where_they_are_seen(made: Made, visit: Visit) -> None:
    """20,000 words: the browser lays out what is in view, the word that is said is found and followed to the end."""
    long = made.copy("20261123-000000-long-0005")
    whole = long.whole
    segments = []
    for k in range(1700):
        words = [
            {"word": f" word{k}x{n}", "start": k * 4.2 + n * 0.33, "end": k * 4.2 + n * 0.33 + 0.3, "probability": 0.9}
            for n in range(12)
        ]
        segments.append({"speaker": f"S{k % 3 + 1}", "words": words})
    long.write_transcript({**whole, "segments": segments, "duration": 7200})
    page = visit.open(long.report())
    assert page.locator(".words span").count() == 20_400
    drawn = "[...document.querySelectorAll('.words')].filter((p) => p.checkVisibility({ contentVisibilityAuto: true })).length"
    until(page, f"{drawn} < 60")
    # The film is short: its clock is what the page goes by. (No expect() here: it reads the whole page again and again.)
    page.evaluate(
        "Object.defineProperty(document.querySelector('.media'), 'currentTime', { value: 7000.1, writable: true })"
    )
    page.evaluate("document.querySelector('.media').dispatchEvent(new Event('timeupdate'))")
    assert page.evaluate("document.querySelector('.words .now').textContent") == "word1666x8"
    inside = "(({ top, bottom }) => top > 0 && bottom < innerHeight)(document.querySelector('.words %s').getBoundingClientRect())"
    page.locator(".follow").click()
    page.locator(".follow").click()
    until(page, inside % ".now")
    count = "document.querySelector('.count').textContent"
    page.locator("[type=search]").fill("word16")
    until(page, f"{count} === '933 of 1332'")  # word16, word160…169, word1600…1699; the first one from here on
    page.locator("[type=search]").fill("word850x3 word850x4")
    until(page, f"{count} === '1 of 1'")
    until(page, inside % ".here")
    assert page.evaluate(drawn) < 60


def test_open_shows_it_in_a_browser_or_says_why_not(made: Made, tmp_path: Path) -> None:
    """The desktop's own opener gets the file; without a screen the page is written all the same (exit code 3)."""
    opener = tmp_path / "xdg-open"
    opener.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    opener.chmod(0o755)
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    env |= {"BAKE_JOBS": str(made.folder.parent), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    out = tmp_path / "talk page.html"
    command = [sys.executable, str(ROOT / "build.py"), "jobs", "report", made.folder.name, "--open", "--out", str(out)]
    done = subprocess.run(command, env={**env, "DISPLAY": ":9"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    end = time.monotonic() + 10
    while not (tmp_path / "opened").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert (tmp_path / "opened").read_text() == f"{out}\n"
    out.unlink()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "no screen" in done.stderr
    assert out.is_file()


def test_it_prints_as_a_text(made: Made, visit: Visit) -> None:
    """Speakers and words, dark on white whatever the screen shows, without player and buttons."""
    page = visit.open(made.report(), scheme="dark")
    page.emulate_media(media="print")
    for gone in (".player", ".toolbar", ".files"):
        expect(page.locator(gone)).to_be_hidden()
    expect(page.locator(".turn").last).to_be_visible()
    ink = page.evaluate("getComputedStyle(document.querySelector('.words')).color")
    assert max(map(int, re.findall(r"\d+", ink))) < 60, ink
