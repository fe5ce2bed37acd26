// A console in the page: a terminal or a screen, joined with its machine by one socket that a one-use ticket opens.
// The server records before it sends, so what stands here is in the recording.

const root = document.querySelector("[data-console]");
const body = root.querySelector("[data-body]");
const state = root.querySelector("[data-state]");
const over = root.querySelector("[data-over]");
const words = root.dataset;
const encoder = new TextEncoder();

function tell(text, live) {
  state.textContent = text;
  root.classList.toggle("live", live);
}

// Ending is said over the socket itself; without one the form does it.
function ends(line) {
  root.querySelector("[data-end]").addEventListener("submit", (event) => {
    if (line.readyState !== WebSocket.OPEN) return;
    event.preventDefault();
    line.send(JSON.stringify({ close: true }));
  });
}

let finished = false;
function finish(why, detail) {
  if (finished) return;
  finished = true;
  tell(why, false);
  over.querySelector("[data-why]").textContent = why;
  over.querySelector("[data-detail]").textContent = detail ?? "";
  over.hidden = false;
  over.focus(); // not its button: somebody may still be typing
  document.title = `${why} ${document.title}`;
}

async function socket() {
  const token = document.querySelector('meta[name="csrf-token"]').content;
  const answer = await fetch(words.ticket, { method: "POST", headers: { "X-CSRFToken": token, Accept: "application/json" } });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).title ?? "");
  const { ticket } = await answer.json();
  const address = new URL(words.socket, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.searchParams.set("ticket", ticket);
  const opened = new WebSocket(address, ["binary"]);
  opened.binaryType = "arraybuffer";
  ends(opened);
  return opened;
}

function message(text) {
  const said = JSON.parse(text);
  if (said.open) tell(words.open, true);
  if (said.watchers) {
    const place = root.querySelector("[data-watchers]");
    place.textContent = said.watchers.length ? ` · ${place.dataset.also} ${said.watchers.join(", ")}` : "";
  }
  if (said.ended) finish(words.ended, said.detail);
}

async function terminal() {
  const [{ Terminal }, { FitAddon }] = await Promise.all([import("./vendor/xterm-6.0.0/xterm.mjs"), import("./vendor/xterm-6.0.0/addon-fit.mjs")]);
  const view = new Terminal({ cursorBlink: true, fontSize: 14, fontFamily: "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace", scrollback: 5000, disableStdin: words.mode === "view", screenReaderMode: false, theme: { background: "#10151c" } });
  const fit = new FitAddon();
  view.loadAddon(fit);
  view.open(body);
  fit.fit();
  const line = await socket();
  const say = (what) => { if (line.readyState === WebSocket.OPEN) line.send(what); };
  const size = () => say(JSON.stringify({ resize: [view.cols, view.rows] }));
  line.onopen = () => { size(); view.focus(); };
  line.onmessage = ({ data }) => {
    if (typeof data === "string") { message(data); return; }
    const bytes = new Uint8Array(data);
    view.write(bytes, () => say(JSON.stringify({ shown: bytes.length }))); // shown: the machine may go on
  };
  line.onclose = ({ code }) => finish(code === 1006 && !root.classList.contains("live") ? words.refused : words.lost);
  view.onData((text) => say(encoder.encode(text)));
  view.onBinary((text) => say(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
  view.onResize(size);
  new ResizeObserver(() => fit.fit()).observe(body);
  view.attachCustomKeyEventHandler((event) => !escape(event));
  root.querySelector("[data-keyboard]").addEventListener("click", () => view.focus());
  Object.assign(window, { consoleView: view, consoleLine: line });
}

async function screen() {
  const { default: RFB } = await import("./vendor/novnc-1.7.0/core/rfb.js");
  const line = await socket();
  const view = new RFB(body, filtered(line), { shared: true });
  view.viewOnly = words.mode === "view";
  view.scaleViewport = true;
  view.background = "#10151c";
  view.addEventListener("connect", () => view.focus());
  view.addEventListener("disconnect", () => finish(root.classList.contains("live") ? words.lost : words.refused));
  root.querySelector("[data-cad]")?.addEventListener("click", () => { view.sendCtrlAltDel(); view.focus(); });
  root.querySelector("[data-keyboard]").addEventListener("click", () => view.focus());
  document.addEventListener("keydown", (event) => { if (escape(event)) { event.stopImmediatePropagation(); event.preventDefault(); view.blur(); } }, true);
  Object.assign(window, { consoleView: view, consoleLine: line });
}

// The viewer of screens wants a socket that carries its protocol alone; our own messages are text, and taken out here.
function filtered(line) {
  const channel = {
    binaryType: "arraybuffer", protocol: "binary", onopen: null, onmessage: null, onclose: null, onerror: null,
    get readyState() { return line.readyState; },
    send: (data) => line.send(data),
    close: () => line.close(),
  };
  line.onopen = (event) => channel.onopen?.(event);
  line.onerror = (event) => channel.onerror?.(event);
  line.onclose = (event) => channel.onclose?.(event);
  line.onmessage = (event) => { if (typeof event.data === "string") message(event.data); else channel.onmessage?.(event); };
  return channel;
}

function escape(event) {
  if (event.type !== "keydown" || event.key !== "F10" || !event.ctrlKey || !event.shiftKey) return false;
  root.querySelector("[data-end] button").focus();
  return true;
}

(words.console === "terminal" ? terminal() : screen()).catch((error) => finish(words.refused, error.message));
