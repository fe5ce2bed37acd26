// Keyboard, theme, menus and live parts. No page needs it to be read or to send its forms.
"use strict";

(() => {
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

// --- theme -----------------------------------------------------------------------------------------------------
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-theme-switch]")) {
    const root = document.documentElement;
    const next = root.getAttribute("data-bs-theme") === "dark" ? "light" : "dark";
    root.setAttribute("data-bs-theme", next);
    try { localStorage.setItem("theme", next); } catch { /* not kept in private mode */ }
  }
  const opener = event.target.closest("[data-open]");
  if (opener) document.getElementById(opener.dataset.open)?.showModal();
  const menu = event.target.closest("[data-toggle-menu]");
  if (menu) {
    const open = document.body.classList.toggle("menu-open");
    menu.setAttribute("aria-expanded", String(open));
  }
  for (const details of $$("details.menu[open]")) if (!details.contains(event.target)) details.open = false;
  if (event.target.closest("[data-print]")) window.print();
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
  const all = event.target.closest("[data-check-all]");
  if (all) for (const box of $$("tbody input[type=checkbox]", all.closest("table"))) box.checked = all.checked;
});

// --- forged forms: every request of htmx carries the token of the page -------------------------------------------
document.addEventListener("htmx:config:request", (event) => {
  const request = event.detail.ctx.request;
  request.headers["X-CSRFToken"] = $('meta[name="csrf-token"]')?.content ?? "";
});

// --- keyboard ----------------------------------------------------------------------------------------------------
const typing = (element) => element.closest("input, textarea, select, [contenteditable]");
let going = 0;

function move(step) {
  const rows = $$(":not(table)[data-rows] > *, table[data-rows] > tbody > tr").filter((row) => $("a[href]", row));
  if (!rows.length) return;
  const now = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[Math.min(rows.length - 1, Math.max(0, now + step))];
  $("a[href]", next).focus();
  next.scrollIntoView({ block: "nearest" });
}

// The key as it stands on a Latin layout: shortcuts work while Russian is typed.
function latin(event) {
  if (event.code === "Slash" && ".,".includes(event.key)) return event.shiftKey ? "?" : "/";
  return event.key.length === 1 && event.key > "~" && event.code.startsWith("Key") ? event.code[3].toLowerCase() : event.key;
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    document.body.classList.remove("menu-open");
    for (const details of $$("details.menu[open]")) details.open = false;
    if (typing(event.target)) event.target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || $("dialog[open]")) return;
  const key = latin(event);
  if (Date.now() - going < 1500) {
    going = 0;
    const target = $(`[data-go="${CSS.escape(key)}"]`);
    if (target) { event.preventDefault(); target.click(); return; }
  }
  const act = {
    "?": () => $("#keys")?.showModal(),
    "/": () => $("[data-search]")?.focus(),
    g: () => { going = Date.now(); },
    j: () => move(1),
    k: () => move(-1),
  }[key];
  if (act) { event.preventDefault(); act(); return; }
  const button = $(`[data-key="${CSS.escape(key)}"]`); // a r d n m: the page's own buttons
  if (button) { event.preventDefault(); button.matches("input, textarea") ? button.focus() : button.click(); }
});

// --- live parts ----------------------------------------------------------------------------------------------------
// An element with data-live opens one stream a topic. On each event it gets a `live` event (for hx-trigger="live"),
// with {kind, id, data} as detail. The browser reconnects by itself and says where it was: nothing is missed.
const streams = new Map();

function bar(text, good) {
  const element = $("#live-bar");
  element.textContent = text;
  element.classList.toggle("good", good);
  element.hidden = !text;
}

function connect(address, stream) {
  stream.source = new EventSource(address + (stream.last ? `?after=${stream.last}` : ""));
  stream.source.onerror = () => {
    stream.lost = true;
    setTimeout(() => { if (stream.lost) bar(document.body.dataset.liveLost, false); }, 2000);
    if (stream.source.readyState === EventSource.CLOSED) { // refused, or a proxy answered for a server that restarts
      clearTimeout(stream.again);
      stream.again = setTimeout(() => connect(address, stream), 5000);
    }
  };
  stream.source.onopen = () => {
    if (!stream.lost) return;
    stream.lost = false;
    if (!$("#live-bar").hidden) { bar(document.body.dataset.liveBack, true); setTimeout(() => bar("", true), 3000); }
  };
  stream.source.onmessage = (message) => {
    if (stream.seen.has(message.lastEventId)) return;
    stream.seen.add(message.lastEventId);
    stream.last = message.lastEventId;
    const detail = { id: message.lastEventId, ...JSON.parse(message.data) };
    for (const one of [...stream.elements]) {
      if (one.isConnected) one.dispatchEvent(new CustomEvent("live", { detail }));
      else stream.elements.delete(one);
    }
    if (!stream.elements.size) { stream.source.close(); streams.delete(address); }
  };
}

function listen(element) {
  const address = element.dataset.live;
  if (!streams.has(address)) {
    streams.set(address, { elements: new Set(), seen: new Set(), lost: false, last: element.dataset.liveAfter });
    connect(address, streams.get(address));
  }
  streams.get(address).elements.add(element);
}

const listenAll = (root) => {
  if (root.matches?.("[data-live]")) listen(root);
  for (const element of $$("[data-live]", root)) listen(element);
};
listenAll(document);
document.addEventListener("htmx:after:swap", () => listenAll(document));
window.addEventListener("pagehide", () => { for (const stream of streams.values()) { clearTimeout(stream.again); stream.source.close(); } });

// --- forms with data-keep: an error is shown in the form, with everything that was typed still in it -----------------
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-keep]") || event.defaultPrevented) return;
  event.preventDefault();
  const sender = event.submitter;
  const data = new FormData(form, sender);
  if (sender) sender.disabled = true;
  let words = document.body.dataset.liveLost;
  try {
    const answer = await fetch(sender?.getAttribute("formaction") ?? form.action, {
      method: "POST", body: data, headers: { "HX-Request": "true", "X-Form": "keep" },
    });
    const next = answer.headers.get("X-Location");
    if (next) { location.assign(next); return; }
    words = await answer.text();
  } catch { /* the line is down: the form stays as it is */ }
  if (sender) sender.disabled = false;
  let place = $(":scope .form-error", form);
  if (!place) {
    place = document.createElement("div");
    place.className = "form-error";
    place.tabIndex = -1;
    (sender?.parentElement ?? form).insertBefore(place, sender ?? null);
  }
  if (words.trim().startsWith("<")) place.innerHTML = words; // our own page part: problem_part.html
  else place.textContent = words;
  place.focus();
});

// --- drafts: an error or a lost connection keeps what was typed ----------------------------------------------------
for (const area of $$("textarea[data-draft]")) {
  const key = `draft:${location.pathname}:${area.name}`;
  try {
    if (!area.value) area.value = sessionStorage.getItem(key) ?? "";
    area.addEventListener("input", () => sessionStorage.setItem(key, area.value));
    area.form?.addEventListener("submit", () => sessionStorage.removeItem(key));
  } catch { /* private mode: nothing is kept */ }
}

window.listenAll = listenAll; // for parts that a page's own script puts in
})();
