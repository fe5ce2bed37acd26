// The dispatch board: drag a visit or waiting work onto a technician's day, with the server's word on it at once; the
// panel that does the same by keyboard; undo. Without this script the pages of the work orders do all of it.
"use strict";

(() => {
const $ = (selector, within = document) => within.querySelector(selector);
const board = () => $("#board");
const told = $("#told"), says = $("#drag-says"), dialog = $("#picker");
const STEP = 300; // seconds: visits begin at whole five minutes
const token = () => $('meta[name="csrf-token"]').content;

const make = (tag, text, className = "") => Object.assign(document.createElement(tag), { textContent: text, className });

async function ask(address, fields) {
  const options = fields
    ? { method: "POST", body: new URLSearchParams(fields), headers: { Accept: "application/json", "X-CSRFToken": token() } }
    : { headers: { Accept: "application/json" } };
  try {
    const answer = await fetch(address, options);
    return { good: answer.ok, status: answer.status, ...(await answer.json()) };
  } catch {
    return { good: false, status: 0, title: told.dataset.lost, detail: "" };
  }
}

// --- what the server says of a place: red breaks, amber costs, who is touched -----------------------------------
function show(place, verdict) {
  const list = document.createElement("ul");
  list.className = "why";
  for (const [kind, rows] of [["hard", verdict.breaks], ["soft", verdict.warns], ["who", verdict.touched]]) {
    for (const row of rows ?? []) list.append(make("li", row, kind));
  }
  if (!verdict.breaks?.length && !verdict.warns?.length) list.append(make("li", told.dataset.fits, "fits"));
  const cost = verdict.cost === null || verdict.cost === undefined ? "" : ` · ${told.dataset.cost} ${verdict.cost}`;
  place.replaceChildren(make("strong", verdict.words + cost), list);
  place.classList.toggle("hard", Boolean(verdict.breaks?.length));
  place.classList.toggle("soft", !verdict.breaks?.length && Boolean(verdict.warns?.length));
}

function tell(good, words, act) {
  told.replaceChildren(make("span", words));
  told.className = `told ${good ? "good" : "bad"}`;
  if (act) {
    const button = make("button", act.words, "btn btn-sm");
    button.type = "button";
    button.addEventListener("click", act.press);
    told.append(button);
  }
  const close = make("button", "×", "btn btn-sm");
  close.type = "button";
  close.setAttribute("aria-label", told.dataset.close);
  close.addEventListener("click", () => { told.hidden = true; });
  told.append(close);
  told.hidden = false;
}

async function refresh() {
  const answer = await fetch(location.href, { headers: { "X-Requested-With": "fetch" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  if (drag) { stale = true; return; } // nothing moves under the hand
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("board");
  if (fresh) { // the board keeps its own element: it listens to the stream
    Object.assign(board().dataset, { begins: fresh.dataset.begins, ends: fresh.dataset.ends });
    board().replaceChildren(...fresh.childNodes);
    window.htmx?.process?.(board());
  }
}

async function drop(address, fields) {
  const answer = await ask(`${address}/place`, fields);
  if (answer.good) {
    tell(true, answer.words, { words: told.dataset.undo, press: async () => {
      const back = await ask(answer.undo_at, answer.undo);
      tell(back.good, back.good ? back.words : `${back.title} ${back.detail}`);
      refresh();
    } });
  } else {
    tell(false, `${answer.title} ${answer.detail ?? ""}`);
  }
  refresh();
  return answer.good;
}

// --- drag ---------------------------------------------------------------------------------------------------------
let drag = null, stale = false; // stale: the board changed while somebody held a visit

function begin(event) {
  const source = event.target.closest("[data-drag]");
  if (!source || !board()?.hasAttribute("data-plans") || event.button !== 0 || event.pointerType === "touch") return;
  if (source.matches("tr") && !event.target.closest(".handle")) return;
  const bar = source.matches("a") ? source.getBoundingClientRect() : null;
  drag = { source, x: event.clientX, y: event.clientY, moved: false, grip: bar ? event.clientX - bar.left : 0, seen: 0, asked: "" };
}

function placeAt(event) {
  const lane = document.elementsFromPoint(event.clientX, event.clientY).map((one) => one.closest(".lane[data-technician]")).find(Boolean);
  const time = lane && $("svg.time", lane).getBoundingClientRect();
  if (!lane || event.clientX < time.left || event.clientX > time.right) return null;
  const begins = Number(board().dataset.begins), ends = Number(board().dataset.ends);
  const at = begins + ((event.clientX - drag.grip - time.left) / time.width) * (ends - begins);
  const start = Math.round(at / STEP) * STEP;
  const width = (Number(drag.source.dataset.seconds) / (ends - begins)) * time.width;
  const left = time.left + ((start - begins) / (ends - begins)) * time.width;
  return { lane, start, technician: lane.dataset.technician, box: { left, top: lane.getBoundingClientRect().top, width, height: lane.offsetHeight } };
}

function move(event) {
  if (!drag) return;
  if (!drag.moved) {
    if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < 5) return;
    drag.moved = true;
    drag.ghost = make("div", drag.source.querySelector(".big, td a")?.textContent ?? "", "ghost");
    document.body.append(drag.ghost);
    document.body.classList.add("dragging");
  }
  event.preventDefault();
  drag.place = placeAt(event);
  const box = drag.place?.box ?? { left: event.clientX, top: event.clientY, width: 120, height: 48 };
  for (const side of ["left", "top", "width", "height"]) drag.ghost.style[side] = `${box[side]}px`;
  drag.ghost.classList.toggle("nowhere", !drag.place);
  says.hidden = !drag.place;
  if (!drag.place) return;
  says.style.left = `${Math.min(event.clientX + 14, innerWidth - 330)}px`;
  says.style.top = `${Math.min(event.clientY + 18, innerHeight - 170)}px`;
  judge();
}

// One question at a time; the newest place is asked as soon as the last answer is here.
async function judge() {
  const mine = drag, key = `${mine.place.technician} ${mine.place.start}`;
  if (mine.asking || mine.asked === key) return;
  mine.asking = true;
  mine.asked = key;
  const begins = new Date(mine.place.start * 1000).toISOString();
  const verdict = await ask(`${mine.source.dataset.at}/feedback?technician=${mine.place.technician}&starts_at=${begins}`);
  mine.asking = false;
  if (drag !== mine) return;
  mine.verdict = { key, ...verdict };
  if (verdict.good) {
    show(says, verdict);
    mine.ghost.classList.toggle("hard", verdict.breaks.length > 0);
    mine.ghost.classList.toggle("soft", !verdict.breaks.length && verdict.warns.length > 0);
    mine.ghost.classList.toggle("fits", !verdict.breaks.length && !verdict.warns.length);
  }
  if (mine.place && mine.asked !== `${mine.place.technician} ${mine.place.start}`) judge();
}

function end(dropped) {
  const mine = drag;
  drag = null;
  if (stale) { stale = false; refresh(); }
  if (!mine?.moved) return;
  mine.ghost.remove();
  says.hidden = true;
  document.body.classList.remove("dragging");
  const swallow = (event) => { event.preventDefault(); event.stopPropagation(); }; // a drop is no click on the link
  addEventListener("click", swallow, { capture: true });
  setTimeout(() => removeEventListener("click", swallow, { capture: true }), 50);
  if (!dropped || !mine.place) return;
  const { start, technician } = mine.place;
  if (mine.source.dataset.start === String(start) && mine.source.closest(".lane")?.dataset.technician === technician) return;
  const fields = { technician, starts_at: new Date(start * 1000).toISOString(), version: mine.source.dataset.version ?? "" };
  const leaves = mine.verdict?.key === `${technician} ${start}` && mine.verdict.leaves_promise && !mine.verdict.breaks.length;
  if (leaves) {
    const press = () => drop(mine.source.dataset.at, { ...fields, renegotiated: "1" });
    tell(false, mine.verdict.warns.concat(mine.verdict.touched).join(" "), { words: told.dataset.agreed, press });
  } else {
    drop(mine.source.dataset.at, fields);
  }
}

document.addEventListener("pointerdown", begin);
document.addEventListener("pointermove", move);
document.addEventListener("pointerup", () => end(true));
document.addEventListener("pointercancel", () => end(false));
document.addEventListener("dragstart", (event) => { if (event.target.closest?.("[data-drag]")) event.preventDefault(); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && drag) end(false); });
document.addEventListener("htmx:before:request", (event) => {
  if (!drag || !event.target.closest?.("#board")) return;
  stale = true;
  event.preventDefault();
});

// --- the panel: who, when, what the server says, all by keyboard --------------------------------------------------
async function open(address) {
  const answer = await fetch(address, { headers: { "HX-Request": "true" } }).catch(() => null);
  if (!answer || answer.redirected) return tell(false, told.dataset.lost);
  dialog.innerHTML = await answer.text(); // our own page part
  dialog.showModal();
  const form = $("form.picker", dialog);
  if (!form) return;
  form.addEventListener("change", (event) => {
    const choice = event.target.closest("[data-starts]");
    if (choice) { form.technician.value = choice.dataset.technician; form.starts_at.value = choice.dataset.starts; }
    else for (const one of form.querySelectorAll("[name=candidate]")) one.checked = false;
    weigh(form);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.submitter ?? $("button.btn-primary", form);
    button.disabled = true;
    const verdict = await weigh(form);
    if (verdict?.breaks?.length) { button.disabled = false; return; }
    if (verdict?.leaves_promise && form.renegotiated.value !== "1") {
      form.renegotiated.value = "1"; // said once in words, pressed twice
      button.lastChild.textContent = told.dataset.agreed;
      button.disabled = false;
      return;
    }
    const { candidate, csrf_token, ...fields } = Object.fromEntries(new FormData(form));
    if (await drop(form.action.replace(/\/place$/, ""), fields)) dialog.close();
    else { $(".says", form).replaceChildren(make("p", told.textContent.replace("×", ""), "hard")); button.disabled = false; }
  });
  const first = $("[name=candidate]:not(:disabled)", form);
  if (first && !form.elements.version) { first.checked = true; form.technician.value = first.dataset.technician; form.starts_at.value = first.dataset.starts; }
  first?.focus();
  weigh(form);
}

async function weigh(form) {
  if (!form.starts_at.value) return null;
  const fields = new URLSearchParams({ technician: form.technician.value, starts_at: form.starts_at.value });
  const verdict = await ask(`${form.dataset.judge}?${fields}`);
  if (verdict.good) show($(".says", form), verdict);
  return verdict.good ? verdict : null;
}

document.addEventListener("click", (event) => {
  const pick = event.target.closest("[data-pick]");
  if (pick && !event.ctrlKey && !event.metaKey) { event.preventDefault(); open(pick.dataset.pick); }
  if (event.target.closest("[data-pick-focused]")) {
    const order = document.activeElement?.closest("[data-order]") ?? $("[data-waiting][data-order]");
    if (order) open(`${order.dataset.at}/picker`);
  }
});

})();
