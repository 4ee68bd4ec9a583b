"use strict";
// Everything that comes from a client is shown with textContent: it is text, whatever it contains.
const find = (selector, place = document) => place.querySelector(selector);
const MOST_ROWS = 500;
const requests = new Map(); // number -> exchange
let state = null;

// Characters that are invisible, or turn the text around them, are shown as escapes.
const ACTING = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const visible = (text) => String(text).replace(ACTING, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = visible(text);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function row(cells, kind = "") {
  const made = element("tr", "", kind ? {class: kind} : {});
  for (const cell of cells) {
    if (cell instanceof Node) made.append(element("td")), made.lastChild.append(cell);
    else made.append(element("td", cell ?? ""));
  }
  return made;
}

function fill(section, rows, count) {
  find(`#${section} tbody`).replaceChildren(...rows);
  const place = find(`#${section} .count`);
  if (place && count !== undefined) place.textContent = count;
}

const clock = (seconds) => new Date(seconds * 1000).toISOString();

// Requests

function notes(one) {
  const made = element("span");
  for (const fault of one.faults) made.append(element("span", `fault: ${fault}`, {class: "note"}));
  if (one.is_repeat) made.append(element("span", "repeat", {class: "note", title: "the same request came before"}));
  return made;
}

function requestRow(one) {
  const open = element("button", one.path, {class: "row", "aria-label": `Show request ${one.number}: ${one.method} ${one.path}`});
  const took = one.took_s === null ? "…" : Math.round(one.took_s * 1000);
  const status = one.status || (one.took_s === null ? "…" : "none");
  const made = row([clock(one.at_s).slice(11, 23), status, one.method, open, one.operation, one.client, took, notes(one)],
    one.status >= 400 || (!one.status && one.took_s !== null) ? "bad" : "");
  made.dataset.number = one.number;
  return made;
}

function fits(one, wanted) {
  const text = `${one.method} ${one.path} ${one.operation} ${one.client} ${one.status} ${one.faults.join(" ")}`;
  return text.toLowerCase().includes(wanted.toLowerCase());
}

function showRequests() {
  const wanted = find("#filter").value;
  const shown = [...requests.values()].filter((one) => fits(one, wanted)).sort((a, b) => b.number - a.number);
  fill("requests", shown.slice(0, MOST_ROWS).map(requestRow), tellShown(Math.min(shown.length, MOST_ROWS)));
}

// Only the newest requests are here; the journal has them all.
function tellShown(count) {
  return `${count} of ${Math.max(requests.size, state?.requests ?? 0)} shown`;
}

async function showDetails(number) {
  const one = await ask("GET", `journal/${number}`);
  if (!one) return;
  const place = find("#details");
  find(".number", place).textContent = number;
  const headers = (given) => Object.entries(given).map(([name, value]) => visible(`${name}: ${value}`)).join("\n");
  const body = (json, bytes) => json === null ? `${bytes} bytes, not shown` : visible(JSON.stringify(json, null, 2));
  find(".request_headers", place).textContent = headers(one.request_headers);
  find(".request_body", place).textContent = body(one.request_json, one.request_bytes);
  find(".response_headers", place).textContent = headers(one.response_headers);
  find(".response_body", place).textContent = body(one.response_json, one.response_bytes ?? "some");
  place.hidden = false;
}

// Everything else

const ACTIONS = {
  complete: {status: "COMPLETE"},
  fail: {status: "FAILED", message: "failed from the page"},
  "stop for review": {status: "STOPPED_AT_CHECKPOINT"},
  release: {action: "release"},
};
const FINAL = ["COMPLETE", "FAILED", "CANCELLED"];

function runRow(run) {
  const buttons = element("span");
  for (const [name, change] of Object.entries(ACTIONS)) {
    const button = element("button", name, {"aria-label": `${name} run ${run.id}`});
    button.disabled = FINAL.includes(run.status);
    button.addEventListener("click", () => ask("POST", `runs/${encodeURIComponent(run.id)}`, change));
    buttons.append(button, " ");
  }
  const input = run.batch_id === null ? run.input_dir : `batch ${run.batch_id}`;
  return row([run.id, run.status, input, run.tags.join(", "), buttons], run.status === "FAILED" ? "bad" : "");
}

const opened = new Set(); // batches whose files are shown

function batchRow(batch) {
  const files = element("details");
  files.open = opened.has(batch.id);
  files.addEventListener("toggle", () => opened[files.open ? "add" : "delete"](batch.id));
  files.append(element("summary", `${batch.file_count} file${batch.file_count === 1 ? "" : "s"}`));
  const list = element("ul");
  for (const file of batch.files) list.append(element("li", `${file.name} (${file.size} bytes)`));
  if (batch.file_count > batch.files.length) list.append(element("li", `and ${batch.file_count - batch.files.length} more`));
  files.append(list);
  return row([batch.id, batch.name, batch.context, files]);
}

function ledgerRows(ledger) {
  const rows = [];
  for (const [kind, told] of Object.entries(ledger)) {
    for (const [item, times] of Object.entries(told.newest)) rows.push([kind, item, times]);
    const left = told.count - Object.keys(told.newest).length;
    if (left > 0) rows.push([kind, `and ${left} more`, ""]);
  }
  rows.sort((a, b) => (b[2] > 1) - (a[2] > 1));
  return rows.map((cells) => row(cells, cells[2] > 1 ? "bad" : ""));
}

function faultRow(fault) {
  const {operation, do: kind, when, calls, used, ...keys} = fault;
  return row([operation, kind, when, calls, used, JSON.stringify(keys)]);
}

// Replace only what changed: a button must not vanish under the pointer, nor an open list close.
function showPart(name, value, show) {
  const text = JSON.stringify(value);
  if (showPart.shown[name] === text) return;
  showPart.shown[name] = text;
  show(value);
}
showPart.shown = {};

function showState(given) {
  state = given;
  find("#now").textContent = `${clock(state.clock.now_s).slice(0, 19)}Z${state.clock.is_frozen ? " (frozen)" : ""}`;
  showPart("requests", state.requests, showRequests);
  showPart("checkpoints", state.checkpoints, (names) =>
    find("#checkpoints").replaceChildren(...names.map((name) => element("option", "", {value: name}))));
  showPart("runs", state.runs, (runs) => fill("runs", runs.newest.map(runRow), cut(runs)));
  showPart("batches", state.batches, (batches) => fill("batches", batches.newest.map(batchRow), cut(batches)));
  showPart("ledger", state.ledger, (ledger) => fill("ledger", ledgerRows(ledger)));
  showPart("faults", state.faults, (faults) => fill("faults", faults.map(faultRow), faults.length));
  showPart("coverage", state.coverage, showCoverage);
  showPart("choices", [state.operations, state.dos], ([operations, dos]) => {
    choices("operation", ["*", ...operations]);
    choices("do", dos);
  });
}

const cut = (part) => part.count > part.newest.length ? `${part.newest.length} of ${part.count}` : part.count;

function showCoverage(coverage) {
  const rows = Object.entries(coverage.calls).map((cells) => row(cells));
  rows.push(...coverage.never.map((name) => row([name, 0])));
  rows.push(...Object.entries(coverage.unknown).map(([name, calls]) => row([`unknown: ${name}`, calls], "bad")));
  fill("coverage", rows, `${coverage.exercised} of ${coverage.of}`);
}

function choices(name, values) {
  find(`#arm [name=${name}]`).replaceChildren(...values.map((value) => element("option", value)));
}

// Controls

async function ask(method, path, body) {
  const problem = find("#problem");
  try {
    const options = {method};
    if (body !== undefined) options.body = JSON.stringify(body), options.headers = {"Content-Type": "application/json"};
    const answer = await fetch(path, options);
    const text = await answer.text();
    const json = text ? JSON.parse(text) : {};
    problem.textContent = answer.ok ? "" : visible(json.message || `status ${answer.status}`);
    return answer.ok ? json : null;
  } catch (error) {
    problem.textContent = visible(error);
    return null;
  }
}

find("#clock").addEventListener("submit", (event) => {
  event.preventDefault();
  ask("POST", "clock", {advance_s: event.target.seconds.valueAsNumber});
});
find("#checkpoint").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = event.target.name.value;
  ask("POST", event.submitter.value, name ? {name} : {});
});
find("#arm").addEventListener("submit", (event) => {
  event.preventDefault();
  const script = {};
  for (const field of event.target.querySelectorAll("[name]"))
    if (field.value !== "" && field.name !== "more")
      script[field.name] = field.type === "number" ? field.valueAsNumber : field.value;
  try {
    Object.assign(script, JSON.parse(event.target.more.value || "{}"));
  } catch (error) {
    find("#problem").textContent = `More keys: ${error.message}`;
    return;
  }
  ask("POST", "faults", {faults: [script]});
});
find("#disarm").addEventListener("click", () => ask("DELETE", "faults"));
find("#clear").addEventListener("click", () => ask("DELETE", "journal"));
find("#close").addEventListener("click", () => { find("#details").hidden = true; });
find("#filter").addEventListener("input", showRequests);
find("#requests tbody").addEventListener("click", (event) => {
  const chosen = event.target.closest("tr");
  if (chosen) showDetails(chosen.dataset.number);
});

const source = new EventSource("events");
source.addEventListener("open", () => { find("#link").textContent = "live"; find("#link").dataset.open = ""; });
source.addEventListener("error", () => { find("#link").textContent = "connection lost, trying again"; delete find("#link").dataset.open; });
source.addEventListener("reset", () => { requests.clear(); showRequests(); });
source.addEventListener("exchanges", (event) => {
  for (const one of JSON.parse(event.data)) requests.set(one.number, one);
  for (const number of [...requests.keys()].sort((a, b) => a - b).slice(0, -2 * MOST_ROWS)) requests.delete(number);
  showRequests();
});
source.addEventListener("state", (event) => showState(JSON.parse(event.data)));
