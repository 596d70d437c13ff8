// The page of a job: the transcript follows the recording, and the recording the transcript.
// No request, no markup from text: the page's policy forbids both.
"use strict";

const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const data = JSON.parse(one("#data").textContent);
const JUMP = 5; // seconds of the arrow keys

const clock = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, String(whole % 60).padStart(2, "0")];
  return h ? `${h}:${String(m).padStart(2, "0")}:${s}` : `${m}:${s}`;
};

const announce = (text) => { one("#said").textContent = text; };

// What a person calls the speakers stays in this browser; some allow no storage for pages from a disk.
const kept = {
  key: `whisperbake ${document.body.dataset.job}`,
  read() { try { return JSON.parse(localStorage.getItem(this.key)) ?? {}; } catch { return {}; } },
  write(value) { try { localStorage.setItem(this.key, JSON.stringify(value)); } catch { /* for this visit only */ } },
};

// Files stand at the end of the page, below this script.
const whole = () => document.readyState !== "loading";

// A file that is in the page, as a Blob; its block is given up once it was read.
const blobs = new Map();
function blob(id, type) {
  if (!blobs.has(id)) {
    const block = one(`#${CSS.escape(id)}`);
    const raw = atob(block.textContent);
    const bytes = new Uint8Array(raw.length);
    for (let k = 0; k < raw.length; k++) bytes[k] = raw.charCodeAt(k);
    block.remove();
    blobs.set(id, new Blob([bytes], { type }));
  }
  return blobs.get(id);
}
const addresses = new Map();
function address(id, type) {
  if (!addresses.has(id)) addresses.set(id, URL.createObjectURL(blob(id, type)));
  return addresses.get(id);
}

// How a search sees text: no case, no accents, one kind of quotes.
const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[’‘]/g, "'").replace(/[“”„]/g, '"');

class Recording {
  constructor(root) {
    this.root = root;
    Object.assign(this, data[root.dataset.id]);
    this.words = all(".words span", root);
    this.turns = all(".turn", root);
    this.index = new Map(this.words.map((word, k) => [word, k]));
    this.media = one(".media", root);
    this.now = -1;
    this.cursor = 0;
    this.follows = true;
    if (this.media) this.player();
    if (this.words.length) {
      this.transcript();
      this.searching();
    }
    this.speakers();
    one(".changes", root)?.addEventListener("click", (event) => {
      const button = event.target.closest(".at");
      if (button) this.changed(Number(button.dataset.at));
    });
    for (const link of all(".files a[data-from]", root)) {
      // Only when somebody wants it: a page of many files opens at once.
      link.addEventListener("click", () => { if (whole()) link.href = address(link.dataset.from, link.dataset.type); });
    }
  }

  // The recording came into view for the first time: now its sound is worth the memory.
  open() {
    const { media } = this;
    if (!whole()) return;
    if (media?.dataset.from && !media.src) media.src = address(media.dataset.from, media.dataset.type);
  }

  // ---- Player

  player() {
    const { media, root } = this;
    media.controls = false;
    this.map = one(".map", root);
    this.head = one(".head", root);
    one(".play", root).addEventListener("click", () => this.toggle());
    one(".back", root).addEventListener("click", () => this.seek(media.currentTime - JUMP));
    one(".ahead", root).addEventListener("click", () => this.seek(media.currentTime + JUMP));
    one(".rate", root).addEventListener("change", (event) => { media.playbackRate = Number(event.target.value); });
    one(".sound", root).addEventListener("click", () => { media.muted = !media.muted; });
    media.addEventListener("volumechange", () => {
      const button = one(".sound", root);
      button.setAttribute("aria-pressed", media.muted);
      one("use", button).setAttribute("href", media.muted ? "#i-mute" : "#i-sound");
    });
    for (const kind of ["play", "pause", "ended"]) media.addEventListener(kind, () => this.state());
    for (const kind of ["seeked", "timeupdate", "loadedmetadata"]) media.addEventListener(kind, () => this.tick());
    media.addEventListener("click", () => this.toggle());
    media.addEventListener("error", () => this.trouble());
    one(".full", root)?.addEventListener("click", () => (media.requestFullscreen ?? media.webkitEnterFullscreen)?.call(media));
    media.addEventListener("fullscreenchange", () => { media.controls = document.fullscreenElement === media; });
    const captions = one(".captions", root);
    captions?.addEventListener("click", () => this.captions());
    if (captions) captions.hidden = !one('.files a[download$=".vtt"][data-from]', root);
    one(".follow", root)?.addEventListener("click", () => this.following(!this.follows, true));
    for (const kind of ["wheel", "touchmove"]) {
      // Who scrolls while it plays wants to read elsewhere.
      window.addEventListener(kind, () => { if (!media.paused && !root.hidden) this.following(false); }, { passive: true });
    }
    if (this.map) this.slider();
  }

  get playing() { return this.media && !this.media.paused && !this.media.ended; }

  toggle() {
    if (!this.media) return;
    if (this.playing) this.media.pause();
    else this.media.play().catch(() => { /* an error event says why */ });
  }

  seek(seconds, play = false) {
    if (!this.media) return;
    this.media.currentTime = Math.min(Math.max(0, seconds), this.duration || this.media.duration || 0);
    if (play) this.media.play().catch(() => {});
    this.tick();
  }

  state() {
    const button = one(".play", this.root);
    one("use", button).setAttribute("href", this.playing ? "#i-pause" : "#i-play");
    button.setAttribute("aria-label", this.playing ? "Pause" : "Play");
    cancelAnimationFrame(this.frame);
    const step = () => {
      this.tick();
      if (this.playing) this.frame = requestAnimationFrame(step);
    };
    step();
  }

  tick() {
    const at = this.media.currentTime;
    if (this.map) this.head.style.transform = `translateX(${Math.min(100, (100 * at) / this.duration)}%)`;
    const text = clock(at + this.offset);
    if (text !== this.shown) {
      this.shown = text;
      one(".time .now", this.root).textContent = text;
      this.map?.setAttribute("aria-valuenow", Math.floor(at));
      this.map?.setAttribute("aria-valuetext", text);
    }
    this.light(this.at(at * 1000));
  }

  // The word that is said at a time in milliseconds; between two words the one before, for a moment.
  at(time) {
    let [low, high] = [0, this.starts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.starts[middle] <= time + 1) low = middle + 1;
      else high = middle;
    }
    return low && time < this.ends[low - 1] + 400 ? low - 1 : -1;
  }

  light(k) {
    if (k === this.now) return;
    this.words[this.now]?.classList.remove("now");
    this.now = k;
    const word = this.words[k];
    const turn = word?.closest(".turn") ?? null;
    word?.classList.add("now");
    if (turn !== this.turn) {
      this.turn?.classList.remove("on");
      turn?.classList.add("on");
      this.turn = turn;
    }
    if (word && this.follows && this.playing) this.reveal(word);
  }

  // Scroll only when a word is not well in view; on a phone the player covers the top.
  reveal(word) {
    const box = word.getBoundingClientRect();
    const narrow = getComputedStyle(this.root).display === "flex";
    const player = narrow ? one(".player", this.root) : null;
    const top = (player ? player.offsetHeight + 8 : 0) + 64;
    if (box.top > top && box.bottom < innerHeight * 0.78) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches || Math.abs(box.top) > 3 * innerHeight;
    const rest = top + (innerHeight - top) * 0.25;
    window.scrollTo({ top: scrollY + box.top - rest, behavior: calm ? "instant" : "smooth" });
  }

  following(on, now = false) {
    this.follows = on;
    one(".follow", this.root)?.setAttribute("aria-pressed", on);
    if (on && now && this.words[this.now]) this.reveal(this.words[this.now]);
  }

  slider() {
    const { map } = this;
    const to = (event) => {
      const box = map.getBoundingClientRect();
      this.seek((this.duration * (event.clientX - box.left)) / box.width);
    };
    map.addEventListener("pointerdown", (event) => {
      map.setPointerCapture(event.pointerId);
      to(event);
    });
    map.addEventListener("pointermove", (event) => {
      const box = map.getBoundingClientRect();
      map.title = clock(this.offset + (this.duration * (event.clientX - box.left)) / box.width);
      if (map.hasPointerCapture(event.pointerId)) to(event);
    });
    map.addEventListener("keydown", (event) => {
      const at = this.media.currentTime;
      const target = {
        ArrowLeft: at - JUMP, ArrowDown: at - JUMP, ArrowRight: at + JUMP, ArrowUp: at + JUMP,
        PageDown: at - 12 * JUMP, PageUp: at + 12 * JUMP, Home: 0, End: this.duration,
      }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.seek(target);
    });
  }

  trouble() {
    const { media } = this;
    const note = one(".trouble", this.root);
    const { spare, spareFrom } = media.dataset;
    note.hidden = false;
    if (spare && !this.spared) {
      this.spared = true;
      note.textContent = "This browser can't play the recording itself: you hear the sound that was transcribed.";
      one(".player", this.root).classList.add("blind");
      media.src = spareFrom ? address(spareFrom, "audio/wav") : spare;
      return;
    }
    note.textContent = media.dataset.from
      ? "This browser can't play the recording. The transcript and the downloads work all the same."
      : "The recording is not where this page looks for it (or this browser can't play it): keep the page in its job's folder.";
  }

  // Subtitles over the film, from the WebVTT file that is in the page.
  captions() {
    const link = one('.files a[download$=".vtt"][data-from]', this.root);
    if (!this.track && link && whole()) {
      this.track = this.media.addTextTrack("subtitles", "Subtitles", one(".transcript", this.root)?.lang || "en");
      this.track.mode = "hidden";
      blob(link.dataset.from, link.dataset.type).text().then((text) => {
        const time = "(\\d+):(\\d\\d):(\\d\\d\\.\\d+)";
        for (const cue of text.matchAll(new RegExp(`${time} --> ${time}\\n([^]*?)(?:\\n\\n|\\n*$)`, "g"))) {
          const [h1, m1, s1, h2, m2, s2] = cue.slice(1, 7).map(Number);
          const [from, to] = [h1 * 3600 + m1 * 60 + s1, h2 * 3600 + m2 * 60 + s2];
          this.track.addCue(new VTTCue(Math.max(0, from - this.offset), Math.max(0, to - this.offset), cue[7]));
        }
      });
    }
    if (!this.track) return;
    const on = this.track.mode !== "showing";
    this.track.mode = on ? "showing" : "hidden";
    one(".captions", this.root).setAttribute("aria-pressed", on);
  }

  // ---- Transcript

  transcript() {
    const place = one(".transcript", this.root);
    this.words[0].tabIndex = 0;
    place.addEventListener("click", (event) => {
      if (String(getSelection())) return; // somebody copies text
      const k = this.index.get(event.target);
      const button = event.target.closest(".at");
      if (k !== undefined) this.go(k, { play: this.playing });
      else if (button) this.go(this.first(button.closest(".turn")), { play: true });
    });
    place.addEventListener("dblclick", (event) => {
      const k = this.index.get(event.target);
      if (k !== undefined) this.go(k, { play: true });
    });
    place.addEventListener("pointerover", (event) => {
      const k = this.index.get(event.target);
      if (k !== undefined && !event.target.title) event.target.title = this.tip(k);
    });
    place.addEventListener("focusin", (event) => {
      // A role for the word that has the keyboard; twenty thousand buttons would be noise.
      if (this.index.has(event.target)) event.target.setAttribute("role", "button");
    });
    place.addEventListener("keydown", (event) => this.key(event));
    one(".shade", this.root).addEventListener("click", (event) => {
      const on = place.classList.toggle("shaded");
      event.currentTarget.setAttribute("aria-pressed", on);
    });
    one(".unsure", this.root).addEventListener("click", () => this.unsure());
    one(".unsure", this.root).disabled = !this.sure.some((sure) => sure >= 0 && sure < 50);
  }

  tip(k) {
    return clock(this.offset + this.starts[k] / 1000) + (this.sure[k] < 0 ? "" : `, ${this.sure[k]} % sure`);
  }

  first(turn) { return this.index.get(one(".words span", turn)); }

  // Bring the sound and the keyboard to a word.
  go(k, { play = false, focus = false } = {}) {
    this.put(k);
    this.following(true);
    this.seek(this.starts[k] / 1000, play);
    this.light(k);
    if (focus) this.words[k].focus();
  }

  // The one word that the tab key reaches.
  put(k) {
    const before = this.words[this.cursor];
    before.removeAttribute("role");
    before.tabIndex = -1;
    this.cursor = k;
    this.words[k].tabIndex = 0;
  }

  focus(k) {
    this.put(k);
    this.words[k].focus({ preventScroll: true });
    this.reveal(this.words[k]);
  }

  visible(k) { return !this.words[k].closest(".turn").hidden; }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const at = this.index.get(document.activeElement);
    if (at === undefined) return;
    const turns = this.turns.filter((turn) => !turn.hidden);
    const turn = turns.indexOf(this.words[at].closest(".turn"));
    const near = (step) => {
      for (let k = at + step; k >= 0 && k < this.words.length; k += step) if (this.visible(k)) return k;
      return at;
    };
    const target = {
      ArrowLeft: () => near(-1),
      ArrowRight: () => near(1),
      ArrowUp: () => this.first(turns[this.first(turns[turn]) === at ? Math.max(turn - 1, 0) : turn]),
      ArrowDown: () => (turn + 1 < turns.length ? this.first(turns[turn + 1]) : at),
      Home: () => this.first(turns[0]),
      End: () => this.first(turns[turns.length - 1]),
    }[event.key];
    if (target) this.focus(target());
    else if (event.key === "Enter") this.go(at, { play: true });
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  unsure() {
    const from = this.marked ?? this.cursor - 1;
    const count = this.words.length;
    for (let step = 1; step <= count; step++) {
      const k = (from + step + count) % count;
      if (this.sure[k] >= 0 && this.sure[k] < 50 && this.visible(k)) {
        this.marked = k;
        this.mark(k, 1);
        this.seek(this.starts[k] / 1000);
        announce(`${this.words[k].textContent}, ${this.tip(k)}`);
        return;
      }
    }
  }

  // Outline some words and bring them into view.
  mark(k, length) {
    for (const word of all(".here", this.root)) word.classList.remove("here");
    for (const word of this.words.slice(k, k + length)) word.classList.add("here");
    if (!length) return;
    this.put(k);
    this.following(false);
    this.reveal(this.words[k]);
  }

  // To a place of the list of changes, in milliseconds: the sound, and the word that is said then.
  changed(time) {
    const k = this.at(time);
    if (k >= 0 && this.visible(k)) this.mark(k, 1);
    this.seek(time / 1000, true);
  }

  // ---- Search

  searching() {
    const form = one(".search", this.root);
    const input = one("input", form);
    this.hits = [];
    this.hit = -1;
    let waiting;
    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.search(), 120);
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && input.value) {
        event.preventDefault();
        input.value = "";
        this.search();
      } else if (event.key === "Enter") {
        event.preventDefault();
        clearTimeout(waiting);
        if (this.query !== fold(input.value.trim())) this.search();
        else this.step(event.shiftKey ? -1 : 1);
      }
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.step(1);
    });
    one(".prev", form).addEventListener("click", () => this.step(-1));
  }

  // The words as one text, folded; word k begins at offsets[k].
  folded() {
    if (!this.text) {
      const parts = [];
      this.offsets = [];
      let length = 0;
      for (const word of this.words) {
        const spaced = word.previousSibling?.nodeType === Node.TEXT_NODE || !word.previousSibling;
        const part = (spaced ? " " : "") + fold(word.textContent);
        this.offsets.push(length + (spaced ? 1 : 0));
        parts.push(part);
        length += part.length;
      }
      this.text = parts.join("");
    }
    return this.text;
  }

  search() {
    const query = fold(one(".search input", this.root).value.trim()).replace(/\s+/g, " ");
    this.query = query;
    this.hits = [];
    this.hit = -1;
    const text = this.folded();
    let k = 0;
    for (let at = query ? text.indexOf(query) : -1; at >= 0; at = text.indexOf(query, at + query.length)) {
      while (k + 1 < this.offsets.length && this.offsets[k + 1] <= at) k++;
      let last = k;
      while (last + 1 < this.offsets.length && this.offsets[last + 1] < at + query.length) last++;
      if (this.visible(k)) this.hits.push({ first: k, last, from: at - this.offsets[k], to: at + query.length - this.offsets[last] });
    }
    this.paint();
    this.mark(0, 0);
    if (this.hits.length) {
      // The first one from where the reader is, as editors do it.
      const near = this.hits.findIndex((hit) => hit.last >= (this.now < 0 ? this.cursor : this.now));
      this.hit = Math.max(near, 0) - 1;
      this.step(1);
    } else this.count();
  }

  // Colour what was found, letter by letter, without touching the text; and where it is, on the map.
  paint() {
    if (window.CSS?.highlights && window.Highlight) {
      const ranges = this.hits.map(({ first, last, from, to }) => {
        const [a, b] = [this.words[first].firstChild, this.words[last].firstChild];
        const whole = (node) => fold(node.data).length !== node.length; // accents taken off: count by words
        return new StaticRange({
          startContainer: a, startOffset: whole(a) ? 0 : Math.min(Math.max(from, 0), a.length),
          endContainer: b, endOffset: whole(b) ? b.length : Math.min(to, b.length),
        });
      });
      const shown = new Highlight();
      for (const range of ranges) shown.add(range);
      CSS.highlights.set("hits", shown);
    }
    const height = one(".map svg", this.root)?.viewBox.baseVal.height ?? 5;
    const ticks = new Set(this.hits.map((hit) => Math.round(this.starts[hit.first] / 100) / 10));
    one(".map .hits", this.root)?.setAttribute("d", [...ticks].map((at) => `M${at} ${height - 4}v4`).join(""));
  }

  step(by) {
    if (!this.hits.length) return;
    this.hit = (this.hit + by + this.hits.length) % this.hits.length;
    const { first, last } = this.hits[this.hit];
    this.mark(first, last - first + 1);
    if (!this.playing) this.seek(this.starts[first] / 1000);
    this.count();
  }

  count() {
    const form = one(".search", this.root);
    one(".count", form).textContent = !this.query ? "" : this.hits.length ? `${this.hit + 1} of ${this.hits.length}` : "no match";
    for (const button of all("button", form)) button.disabled = !this.hits.length;
  }

  // ---- Speakers

  speakers() {
    for (const row of all(".speakers li", this.root)) {
      const speaker = row.dataset.speaker;
      const key = `${this.root.dataset.id} ${speaker}`;
      const input = one(".name", row);
      const given = input.defaultValue;
      const turns = this.turns.filter((turn) => turn.dataset.speaker === speaker);
      const rename = (name) => { for (const turn of turns) one(".name", turn).textContent = name; };
      const known = kept.read()[key];
      if (typeof known === "string" && known) {
        input.value = known;
        rename(known);
      }
      input.addEventListener("input", () => rename(input.value.trim() || given));
      input.addEventListener("change", () => {
        const name = input.value.trim();
        if (!name) input.value = given;
        const names = kept.read();
        if (name && name !== given) names[key] = name;
        else delete names[key];
        kept.write(names);
        this.named();
      });
      input.addEventListener("keydown", (event) => { if (event.key === "Enter") input.blur(); });
      one("[type=checkbox]", row).addEventListener("change", (event) => {
        for (const turn of turns) turn.hidden = !event.target.checked;
        if (!this.visible(this.cursor)) {
          const next = this.words.findIndex((_, k) => this.visible(k));
          if (next >= 0) this.put(next);
        }
        if (this.query) this.search();
      });
    }
    this.named();
    // What `jobs name --from` reads: the names in all recordings of the job.
    one(".names .save", this.root)?.addEventListener("click", (event) => {
      const names = {};
      for (const input of all(".speakers li .name")) {
        const name = input.value.trim();
        const recording = input.closest(".recording").dataset.id;
        if (name && name !== input.defaultValue) (names[recording] ??= {})[input.closest("li").dataset.speaker] = name;
      }
      const text = JSON.stringify({ schema: 1, job: document.body.dataset.job, names }, null, 1);
      event.currentTarget.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    });
  }

  // Names that the job doesn't know yet can be saved.
  named() {
    const line = one(".names", this.root);
    if (line) line.hidden = !all(".speakers .name", this.root).some((input) => input.value.trim() && input.value !== input.defaultValue);
  }
}

const recordings = all(".recording").map((root) => new Recording(root));
let current = recordings[0] ?? null;

// ---- Tabs: one panel at a time, arrow keys between them (WAI-ARIA Authoring Practices)

const tabs = all("[role=tab]");
function show(tab) {
  for (const other of tabs) {
    const on = other === tab;
    other.setAttribute("aria-selected", on);
    other.tabIndex = on ? 0 : -1;
    one(`#${CSS.escape(other.getAttribute("aria-controls"))}`).hidden = !on;
  }
  const next = recordings.find((recording) => !recording.root.hidden) ?? null;
  if (current !== next) current?.media?.pause();
  current = next;
  current?.open();
  if (current?.hits?.length) current.paint();
  else window.CSS?.highlights?.clear();
}
for (const tab of tabs) {
  tab.addEventListener("click", () => {
    show(tab);
    history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
  });
  tab.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(tab);
    const target = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next = tabs[(target + tabs.length) % tabs.length];
    show(next);
    next.focus();
  });
}
show(tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash) ?? tabs[0]);

document.addEventListener("DOMContentLoaded", () => current?.open());

for (const language of all(".language")) {
  try {
    language.textContent = new Intl.DisplayNames("en", { type: "language" }).of(language.dataset.code) ?? language.dataset.code;
  } catch { /* the code itself is good enough */ }
}

// ---- Keys that work everywhere, except where somebody types or a control needs them

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || !current) return;
  const { target } = event;
  if (target.closest("input:not([type=checkbox]), textarea, select")) return;
  if (event.key === " " && !target.closest("button, a, input, summary")) current.toggle();
  else if (event.key === "ArrowLeft" && current.media) current.seek(current.media.currentTime - JUMP);
  else if (event.key === "ArrowRight" && current.media) current.seek(current.media.currentTime + JUMP);
  else if (event.key === "/" && one(".slash").checked && one(".search input", current.root)) one(".search input", current.root).select();
  else return;
  event.preventDefault();
});
