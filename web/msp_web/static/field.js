// The technician's phone: shows the day, takes acts at once, sends them in order when there is a line.
"use strict";

(() => {
const words = JSON.parse(document.body.dataset.words);
const content = document.getElementById("content"), line = document.getElementById("line"), trouble = document.getElementById("trouble");
const NEXT = { confirmed: ["on_the_way", "working"], on_the_way: ["working"], working: ["done"] };
const AGAIN = 15000; // milliseconds between two tries while something waits
const SIDE = 1600; // pixels: photos are made no larger
let day = null, waiting = [], token = document.querySelector('meta[name="csrf-token"]').content, sending = null;

function make(tag, fields = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...inside.filter((one) => one !== null && one !== undefined));
  return element;
}
const button = (text, press, className = "btn") => make("button", { type: "button", textContent: text, className, onclick: press });

// --- acts: kept first, then sent in the order in which they were done ---------------------------------------------
async function act(visit, kind, data = {}) {
  const steps = ["on_the_way", "working", "done"];
  if (steps.includes(kind) && waiting.some((one) => one.visit === visit.id && one.kind === kind)) return;
  await store.add({ id: store.uuid(), visit: visit.id, kind, at: new Date().toISOString(), base: visit.version, data });
  await draw();
  send();
}

function send() {
  sending ??= sendAll().finally(() => { sending = null; });
  return sending;
}

async function sendAll() {
  let sent = 0;
  for (const one of await store.all()) {
    if (one.conflict || one.refused) continue;
    const held = (await store.all()).some((other) => other.visit === one.visit && other.seq < one.seq && other.conflict);
    if (held) continue; // what comes after a conflict waits for its decision
    const { seq, ...body } = one;
    let answer;
    try {
      answer = await fetch("/field/acts", {
        method: "POST", body: JSON.stringify(body), redirect: "manual",
        headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": token },
      });
    } catch { break; }
    if (answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 400) { // log-in or token is over
      if (await load()) { if (one.tried) break; await store.put({ ...one, tried: true }); return sendAll(); }
      say(words.login, true);
      return;
    }
    if (answer.status >= 500 || answer.status === 429) break;
    const told = await answer.json().catch(() => ({}));
    if (answer.ok) { await store.remove(one.seq); sent += 1; }
    else if (answer.status === 409 && told.state === "conflict") await store.put({ ...one, conflict: told });
    else await store.put({ ...one, refused: `${told.title ?? answer.status} ${told.detail ?? ""}` });
    await draw();
  }
  if (sent) await load();
  await draw();
}

// --- the day --------------------------------------------------------------------------------------------------------
async function load() {
  try {
    const answer = await fetch("/field/today.json", { headers: { Accept: "application/json" } });
    if (!answer.ok || answer.redirected) return false;
    const found = await answer.json();
    if (day && found.at < day.at) return false; // an older answer, kept by the worker
    day = found;
    token = day.token;
    await store.keepDay(day);
    return true;
  } catch {
    return false;
  }
}

function say(text, off) {
  line.textContent = text;
  line.classList.toggle("off", Boolean(off));
}

// The visit as this phone knows it: what the server told, and what is not sent yet on top.
function stateOf(visit) {
  const steps = waiting.filter((one) => one.visit === visit.id && ["on_the_way", "working", "done"].includes(one.kind) && !one.conflict && !one.refused);
  return steps.length ? steps[steps.length - 1].kind : visit.state;
}
const actsOf = (visit, kind) => [
  ...visit.acts.filter((one) => one.kind === kind),
  ...waiting.filter((one) => one.visit === visit.id && one.kind === kind && !one.conflict && !one.refused && !visit.acts.some((known) => known.id === one.id)),
];
const mark = (one) => ("seq" in one ? make("span", { className: "mark waiting", textContent: words.waiting }) : make("span", { className: "mark sent", textContent: words.sent }));

async function draw() {
  waiting = await store.all();
  const open = new Set([...document.querySelectorAll("details[open]")].map((one) => one.id));
  const known = new Set([...document.querySelectorAll("details")].map((one) => one.id));
  const typed = Object.fromEntries([...document.querySelectorAll("main input[id], main textarea[id]")].map((one) => [one.id, one.value]));
  const focused = document.activeElement?.id;
  if (document.querySelector(".pad.drawn")) { drawLine(); return; } // a signature is being drawn: nothing moves
  content.replaceChildren(...(day?.visits ?? []).map(card));
  if (day && !day.visits.length) content.append(make("p", { textContent: day.technician ? words.none : words.nobody }));
  for (const one of document.querySelectorAll("details")) if (known.has(one.id)) one.open = open.has(one.id);
  for (const [id, value] of Object.entries(typed)) {
    const field = document.getElementById(id);
    if (field && field.type !== "file" && field.type !== "checkbox" && !field.value) field.value = value;
  }
  if (focused) document.getElementById(focused)?.focus();
  trouble.replaceChildren(...waiting.filter((one) => one.conflict || one.refused).map(problem));
  drawLine();
}

function drawLine() {
  const count = waiting.filter((one) => !one.refused && !one.conflict).length;
  line.dataset.waiting = String(count);
  if (!navigator.onLine) say(`${words.offline}${count ? ` ${words.unsent}${count}` : ""}`, true);
  else say(count ? `${words.unsent}${count}` : words.all_sent, count > 0);
}

function problem(one) {
  const box = make("section", { className: "conflict", role: "alert" });
  if (one.refused) {
    box.append(make("p", { textContent: `${words.refused} ${one.kind}: ${one.refused}` }), button("OK", async () => { await store.remove(one.seq); draw(); }));
    return box;
  }
  const { mine, theirs, version } = one.conflict;
  const name = (state) => words[state] ?? state;
  box.append(
    make("strong", { textContent: words.conflict }), make("p", { textContent: one.conflict.words }),
    make("div", { className: "versions" },
      make("div", {}, make("strong", { textContent: words.mine }), make("p", { textContent: `${name(mine.kind)} · ${new Date(mine.at).toLocaleString()}` })),
      make("div", {}, make("strong", { textContent: words.theirs }), make("p", { textContent: `${name(theirs.state)} · ${theirs.technician} · ${new Date(theirs.starts_at).toLocaleString()}` }))),
    button(words.keep_mine, async () => { // a new act on what stands now; later ones of this visit follow it
      const { conflict, tried, ...again } = one;
      await store.put({ ...again, id: store.uuid(), base: version });
      for (const later of waiting) if (later.visit === one.visit && later.seq > one.seq && !later.conflict) await store.put({ ...later, base: version });
      send();
    }, "btn btn-primary"),
    button(words.keep_theirs, async () => { await store.remove(one.seq); await load(); await draw(); send(); }),
  );
  return box;
}

// --- one visit ------------------------------------------------------------------------------------------------------
function card(visit) {
  const state = stateOf(visit);
  const box = make("article", { className: `visit state-${state}`, id: `visit-${visit.id}` });
  box.append(
    make("h2", { textContent: `${visit.when} · ${visit.client}` }),
    make("p", {}, make("strong", { textContent: visit.summary }), ` · ${words[state] ?? words.scheduled}`),
    make("p", { textContent: [visit.site, visit.address].filter(Boolean).join(", ") + (visit.travel ? ` · ${visit.travel} ${words.road}` : "") }),
  );
  if (visit.reason) box.append(make("p", { textContent: visit.reason }));
  const parts = Object.entries(visit.parts);
  if (parts.length) box.append(make("p", { textContent: `${words.brings}: ${parts.map(([sku, count]) => `${count} × ${sku}`).join(", ")}` }));
  if (visit.place || visit.address) {
    const where = visit.place ? `geo:${visit.place.join(",")}?q=${visit.place.join(",")}` : `geo:0,0?q=${encodeURIComponent(visit.address)}`;
    box.append(make("a", { className: "btn", href: where, textContent: words.navigate }));
  }
  for (const [place, step] of (NEXT[state] ?? []).entries()) {
    box.append(button(words[step], () => act(visit, step), `btn big${place ? "" : " btn-primary"}`));
  }
  if (state === "done") box.append(make("a", { className: "btn big", href: `/field/${visit.id}/sheet.pdf`, textContent: words.sheet }));
  const rest = make("details", { id: `work-${visit.id}`, className: "work", open: visit === current() }, make("summary", { textContent: words.record }));
  rest.append(...[checklist(visit), photos(visit), used(visit), time(visit), leftover(visit), signature(visit)].filter(Boolean));
  box.append(rest);
  return box;
}

// The visit that is next or under way is unfolded; the others show where and when.
function current() {
  return day?.visits.find((visit) => stateOf(visit) !== "done") ?? null;
}

function checklist(visit) {
  if (!visit.checklist.length) return null;
  const section = make("section", {}, make("h3", { textContent: words.checklist }));
  for (const [number, one] of visit.checklist.entries()) {
    const last = actsOf(visit, "check").filter((each) => each.data.line === number).at(-1);
    const box = make("input", { type: "checkbox", id: `check-${visit.id}-${number}`, checked: Boolean(last?.data.done) });
    box.addEventListener("change", () => act(visit, "check", { line: number, done: box.checked }));
    const row = make("label", { className: "tick" }, box, make("span", { textContent: one.text }), last ? mark(last) : null);
    if (one.playbook && visit.ticket) row.append(make("a", { className: "btn", href: `/tickets/${visit.ticket}`, textContent: words.run }));
    section.append(row);
  }
  return section;
}

async function shrunk(file) {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, SIDE / Math.max(picture.width, picture.height));
  const canvas = make("canvas", { width: Math.round(picture.width * scale), height: Math.round(picture.height * scale) });
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.8).split(",")[1];
}

function photos(visit) {
  const section = make("section", {}, make("h3", { textContent: words.photos }));
  const row = make("div", { className: "row" });
  for (const when of ["before", "after"]) {
    const input = make("input", { type: "file", accept: "image/*", multiple: true, className: "visually-hidden", id: `photo-${when}-${visit.id}` });
    input.setAttribute("capture", "environment");
    input.addEventListener("change", async () => {
      for (const file of [...input.files]) await act(visit, "photo", { when, picture: await shrunk(file) });
    });
    row.append(make("label", { className: "btn", htmlFor: input.id, textContent: words[when] }), input);
  }
  const list = make("ul", { className: "acts" });
  for (const one of actsOf(visit, "photo")) list.append(make("li", {}, `${words[one.data.when]} ${new Date(one.at).toLocaleTimeString()} `, mark(one)));
  section.append(row, list);
  return section;
}

function used(visit) {
  const sku = make("input", { className: "form-control", id: `sku-${visit.id}`, placeholder: words.scan, ariaLabel: words.scan });
  const count = make("input", { className: "form-control", id: `count-${visit.id}`, type: "number", min: 1, value: 1, ariaLabel: words.quantity });
  const add = async () => {
    if (!sku.value.trim()) return;
    const data = { sku: sku.value.trim(), quantity: Math.max(1, Math.round(Number(count.value) || 1)) };
    sku.value = "";
    await act(visit, "part", data);
  };
  sku.addEventListener("keydown", (event) => { if (event.key === "Enter") add(); }); // scanners end with Enter
  const list = make("ul", { className: "acts" });
  for (const one of actsOf(visit, "part")) list.append(make("li", {}, `${one.data.quantity} × ${one.data.sku} `, mark(one)));
  return make("section", {}, make("h3", { textContent: words.parts }), make("div", { className: "row" }, sku, count, button(words.add, add)), list);
}

function time(visit) {
  const minutes = make("input", { className: "form-control", id: `minutes-${visit.id}`, type: "number", min: 0, max: 1440, placeholder: words.minutes, ariaLabel: words.minutes });
  const note = make("input", { className: "form-control", id: `note-${visit.id}`, placeholder: words.note, ariaLabel: words.note });
  const save = async () => {
    if (minutes.value === "") return;
    const data = { minutes: Math.round(Number(minutes.value)), note: note.value };
    minutes.value = note.value = "";
    await act(visit, "time", data);
  };
  const list = make("ul", { className: "acts" });
  for (const one of actsOf(visit, "time")) list.append(make("li", {}, `${one.data.minutes} ${one.data.note} `, mark(one)));
  return make("section", {}, make("h3", { textContent: words.time }), make("div", { className: "row" }, minutes, note, button(words.save, save)), list);
}

function leftover(visit) {
  const text = make("input", { className: "form-control", id: `left-${visit.id}`, ariaLabel: words.left });
  const propose = async () => { const said = text.value.trim(); if (said) { text.value = ""; await act(visit, "leftover", { text: said }); } };
  const list = make("ul", { className: "acts" });
  for (const one of actsOf(visit, "leftover")) list.append(make("li", {}, `${one.data.text} `, mark(one)));
  return make("section", {}, make("h3", { textContent: words.left }), make("div", { className: "row" }, text, button(words.follow, propose)), list);
}

// --- signature: what is signed is shown whole, and its hash goes with the drawing ------------------------------------
function documentOf(visit) {
  const rows = [`${visit.client} · ${visit.site} · ${visit.when}`, visit.summary, `${words.checklist}:`];
  for (const [number, one] of visit.checklist.entries()) {
    const done = actsOf(visit, "check").filter((each) => each.data.line === number).at(-1)?.data.done;
    rows.push(`[${done ? "x" : " "}] ${one.text}`);
  }
  for (const one of actsOf(visit, "part")) rows.push(`${one.data.quantity} × ${one.data.sku}`);
  for (const one of actsOf(visit, "time")) rows.push(`${one.data.minutes} ${words.minutes} ${one.data.note}`);
  for (const one of actsOf(visit, "leftover")) rows.push(`${words.left}: ${one.data.text}`);
  rows.push(`${words.photos}: ${actsOf(visit, "photo").length}`, words.signs);
  return rows.join("\n");
}

function signature(visit) {
  const details = make("details", { id: `sign-${visit.id}` }, make("summary", { className: "btn", textContent: words.sign }));
  const list = make("ul", { className: "acts" });
  for (const one of actsOf(visit, "sign")) list.append(make("li", {}, `${words.signed} ${one.data.name} `, mark(one)));
  const pad = make("canvas", { className: "pad", width: 700, height: 320 });
  pad.setAttribute("aria-label", words.sign);
  const pen = pad.getContext("2d");
  const clear = () => { pen.fillStyle = "#fff"; pen.fillRect(0, 0, pad.width, pad.height); pad.classList.remove("drawn"); };
  clear();
  let down = false;
  const at = (event) => { const box = pad.getBoundingClientRect(); return [(event.clientX - box.left) * pad.width / box.width, (event.clientY - box.top) * pad.height / box.height]; };
  pad.addEventListener("pointerdown", (event) => { down = true; pad.setPointerCapture(event.pointerId); pen.beginPath(); pen.moveTo(...at(event)); event.preventDefault(); });
  pad.addEventListener("pointermove", (event) => { if (!down) return; pen.lineWidth = 4; pen.lineCap = "round"; pen.strokeStyle = "#10253d"; pen.lineTo(...at(event)); pen.stroke(); pad.classList.add("drawn"); });
  pad.addEventListener("pointerup", () => { down = false; });
  const name = make("input", { className: "form-control", id: `signer-${visit.id}`, placeholder: words.signer, ariaLabel: words.signer });
  const text = make("pre", { className: "document", textContent: documentOf(visit) });
  const save = async () => {
    if (!name.value.trim() || !pad.classList.contains("drawn")) { name.focus(); return; }
    const signed = text.textContent;
    const data = { name: name.value.trim(), document: signed, sha256: await sha256(signed), picture: pad.toDataURL("image/png").split(",")[1] };
    clear();
    name.value = "";
    details.open = false;
    await act(visit, "sign", data);
  };
  details.append(text, pad, make("div", { className: "row" }, name, button(words.clear, clear), button(words.save, save, "btn btn-primary")));
  return make("section", {}, make("h3", { textContent: words.sign }), list, details);
}

async function sha256(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(digest)].map((one) => one.toString(16).padStart(2, "0")).join("");
}

// --- start ----------------------------------------------------------------------------------------------------------
async function start() {
  day = (await store.day()) ?? null;
  await draw();
  await load();
  await draw();
  await send();
}
addEventListener("online", async () => { await load(); await draw(); send(); });
addEventListener("offline", drawLine);
setInterval(async () => { if (!document.hidden && navigator.onLine && (await store.all()).length) send(); }, AGAIN);
document.addEventListener("visibilitychange", async () => { if (!document.hidden) { await load(); await draw(); send(); } });
navigator.serviceWorker?.register("/field/worker.js", { scope: "/field/" });
start();
})();
