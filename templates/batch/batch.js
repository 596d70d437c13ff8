"use strict";
// The table of a batch: sorted, filtered, and a page of rows at a time, so that a hundred thousand stay fast.
// Everything becomes text of an element; nothing is parsed as HTML.

const STATES = ["failed", "unreadable", "running", "missing", "done"];
const ROWS = 200; // of a page
// Columns of a row, as builder/core/batch/page.py writes them.
const [STATE, SHARD, SECONDS, TOOK, WHY, PAGE, KEY, PATH] = [0, 1, 2, 3, 4, 5, 6, 7];

const one = (selector) => document.querySelector(selector);
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const fold = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

const rows = read("data");
const reasons = read("reasons").map(([stage, text]) => (stage ? `${stage}: ${text}` : text));
const folded = reasons.map(fold);
const paths = []; // folded, when somebody searches
document.getElementById("data").remove();

let found = rows;
let page = 0;
let sorted = { column: "state", down: false };

const value = {
  state: (row) => row[STATE],
  path: (row) => row[PATH],
  seconds: (row) => row[SECONDS],
  took: (row) => row[TOOK] ?? -1,
  shard: (row) => row[SHARD],
  why: (row) => (row[WHY] < 0 ? "" : reasons[row[WHY]]),
};

const number = new Map(rows.map((row, k) => [row, k]));

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

function sort() {
  const of = value[sorted.column];
  const sign = sorted.down ? -1 : 1;
  const keyed = found.map((row) => [of(row), row]);
  keyed.sort((a, b) => sign * compare(a[0], b[0]) || number.get(a[1]) - number.get(b[1]));
  found = keyed.map(([, row]) => row);
  for (const head of document.querySelectorAll("#rows th")) {
    const here = head.firstElementChild.dataset.column === sorted.column;
    if (here) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}

function filter() {
  const words = fold(one("#find").value.trim()).split(/\s+/).filter(Boolean);
  const state = STATES.indexOf(one("#state").selectedOptions[0].dataset.state ?? "");
  if (words.length && !paths.length) for (const row of rows) paths.push(fold(row[PATH]));
  found = rows.filter((row, k) => {
    if (state >= 0 && row[STATE] !== state) return false;
    return words.every((word) => paths[k].includes(word) || (row[WHY] >= 0 && folded[row[WHY]].includes(word)));
  });
  page = 0;
  sort();
  show();
}

function clock(seconds) {
  const whole = Math.round(seconds);
  const two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

function cell(text, kind) {
  const made = document.createElement("td");
  if (kind) made.className = kind;
  made.append(text);
  return made;
}

function bdi(text) {
  const made = document.createElement("bdi");
  made.textContent = text;
  return made;
}

function named(row) {
  const name = bdi(row[PATH]);
  if (!row[KEY]) return name;
  const link = document.createElement("a");
  link.href = `results/${row[KEY].slice(0, 2)}/${row[KEY]}/${row[PAGE] ? "report.html" : ""}`;
  link.append(name);
  return link;
}

function show() {
  const last = Math.max(Math.ceil(found.length / ROWS) - 1, 0);
  page = Math.min(Math.max(page, 0), last);
  const body = document.createElement("tbody");
  for (const row of found.slice(page * ROWS, (page + 1) * ROWS)) {
    const line = document.createElement("tr");
    line.append(
      cell(STATES[row[STATE]], STATES[row[STATE]]),
      cell(named(row), "text"),
      cell(row[SHARD] < 0 ? "" : clock(row[SECONDS]), "n"),
      cell(row[TOOK] === null ? "" : `${row[TOOK].toFixed(1)} s`, "n"),
      cell(row[SHARD] < 0 ? "" : String(row[SHARD]), "n"),
      cell(bdi(value.why(row)), "text"),
    );
    body.append(line);
  }
  one("#rows tbody").replaceWith(body);
  one("#count").textContent = found.length === rows.length ? `${rows.length} rows` : `${found.length} of ${rows.length} rows`;
  one("#page").textContent = `page ${page + 1} of ${last + 1}`;
  one("#back").disabled = page === 0;
  one("#on").disabled = page === last;
}

let waiting;
one("#find").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(filter, 120);
});
one("#state").addEventListener("change", filter);
one(".bar").addEventListener("submit", (event) => event.preventDefault());
one("#back").addEventListener("click", () => { page -= 1; show(); });
one("#on").addEventListener("click", () => { page += 1; show(); });
for (const button of document.querySelectorAll("#rows th button")) {
  button.addEventListener("click", () => {
    const { column } = button.dataset;
    sorted = { column, down: sorted.column === column && !sorted.down };
    page = 0;
    sort();
    show();
  });
}

one(".bar").hidden = false;
one("#rows").hidden = false;
filter();
