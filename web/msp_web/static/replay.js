// Plays the recording of a console: a terminal from its asciicast, a screen from the stream that its server sent.
// Both are states built up from the beginning, so going back means building up anew, at full speed.

const root = document.querySelector("[data-player]");
const at = (name) => root.querySelector(`[data-${name}]`);
const [stage, seek, time, speed, skip, toggle] = ["screen", "seek", "time", "speed", "skip", "toggle"].map(at);
const PAUSE = 1000; // milliseconds to which a longer pause is shortened
const words = root.dataset;

function problem(text) {
  const place = at("problem");
  place.textContent = text;
  place.hidden = false;
}

const clock = (ms) => `${Math.floor(ms / 60000)}:${String(Math.floor(ms / 1000) % 60).padStart(2, "0")}`;

// --- the two kinds: each gives {events: [[ms, ...]], reset(), show(event), done()} -------------------------------------
async function terminal(bytes) {
  const { Terminal } = await import("./vendor/xterm-6.0.0/xterm.mjs");
  const events = [];
  let head = { width: 80, height: 24 };
  for (const [number, line] of new TextDecoder().decode(bytes).split("\n").entries()) {
    if (!line) continue;
    try {
      const value = JSON.parse(line);
      if (number === 0) head = value;
      else events.push([value[0] * 1000, value[1], value[2]]);
    } catch { break; } // a recording that was cut off ends here
  }
  const view = new Terminal({ cols: head.width, rows: head.height, disableStdin: true, fontSize: 13, scrollback: 5000, theme: { background: "#10151c" }, fontFamily: "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" });
  view.open(stage);
  window.replayView = view;
  return {
    events,
    reset() { view.reset(); view.resize(head.width, head.height); },
    show([, kind, data]) {
      if (kind === "o") view.write(data);
      if (kind === "r") { const [columns, rows] = data.split("x").map(Number); if (columns > 0 && rows > 0) view.resize(columns, rows); }
    },
    settle: () => new Promise((shown) => view.write("", shown)),
  };
}

async function screen(bytes) {
  const { default: RFB } = await import("./vendor/novnc-1.7.0/core/rfb.js");
  stage.classList.add("screen");
  const events = [];
  const view = new DataView(bytes);
  for (let place = 0; place + 8 <= bytes.byteLength;) {
    const [ms, length] = [view.getUint32(place), view.getUint32(place + 4)];
    if (place + 8 + length > bytes.byteLength) break; // cut off
    events.push([ms, bytes.slice(place + 8, place + 8 + length)]);
    place += 8 + length;
  }
  let rfb = null;
  let channel = null;
  return {
    events,
    reset() {
      rfb?.disconnect();
      stage.querySelectorAll(":scope > div").forEach((old) => old.remove());
      channel = { binaryType: "arraybuffer", protocol: "binary", readyState: 1, onopen: null, onmessage: null, onclose: null, onerror: null, send() {}, close() {} };
      rfb = new RFB(stage, channel, { shared: true });
      rfb.viewOnly = true;
      rfb.scaleViewport = true;
      rfb.background = "#10151c";
      window.replayView = rfb;
    },
    show([, data]) { channel.onmessage?.({ data }); },
    settle: () => new Promise((shown) => { setTimeout(shown, 30); }),
  };
}

// --- playing -------------------------------------------------------------------------------------------------------
const answer = await fetch(words.recording);
if (!answer.ok) problem(words.missing);
else {
  if (answer.headers.get("X-Recording") === "changed") problem(words.changed);
  const film = await (words.player === "screen" ? screen : terminal)(await answer.arrayBuffer());
  const length = Math.max(Number(words.length), film.events.at(-1)?.[0] ?? 0);
  seek.max = String(Math.ceil(length));
  let next = 0; // index of the next event
  let now = 0; // milliseconds of the recording
  let last = null; // milliseconds of the page's clock while playing
  let busy = Promise.resolve();

  const paint = () => {
    if (document.activeElement !== seek || last !== null) seek.value = String(Math.round(now));
    seek.setAttribute("aria-valuetext", clock(now));
    time.textContent = `${clock(now)} / ${clock(length)}`;
    const pictures = [...root.querySelectorAll("[data-at]")];
    const current = pictures.filter((one) => Number(one.dataset.at) <= now).at(-1);
    for (const one of pictures) one === current ? one.setAttribute("aria-current", "true") : one.removeAttribute("aria-current");
  };
  const forward = async (to) => {
    for (let done = 0; next < film.events.length && film.events[next][0] <= to; next++) {
      film.show(film.events[next]);
      if (++done % 200 === 0) await film.settle(); // let it draw, and let the page breathe
    }
    now = to;
  };
  const go = (to) => {
    busy = busy.then(async () => {
      if (to < now || next === 0) { film.reset(); next = 0; await film.settle(); }
      await forward(Math.min(to, length));
      await film.settle();
      if (last !== null) last = performance.now();
      paint();
    });
    return busy;
  };
  const playing = (on) => {
    last = on ? performance.now() : null;
    toggle.setAttribute("aria-label", on ? words.pause : words.play);
    toggle.querySelector('[data-icon="play"]').hidden = on;
    toggle.querySelector('[data-icon="pause"]').hidden = !on;
    root.dataset.state = on ? "playing" : now >= length ? "ended" : "paused";
  };
  const tick = async () => {
    if (last !== null) {
      const page = performance.now();
      let to = now + (page - last) * Number(speed.value);
      last = page;
      const wait = film.events[next]?.[0];
      if (skip.checked && wait !== undefined && wait - now > PAUSE && to < wait - PAUSE) to = wait - PAUSE;
      await busy;
      await forward(Math.min(to, length));
      if (now >= length) playing(false);
      paint();
    }
    requestAnimationFrame(tick);
  };
  toggle.addEventListener("click", async () => {
    if (last === null && now >= length) await go(0);
    playing(last === null);
  });
  seek.addEventListener("input", () => go(Number(seek.value)));
  root.addEventListener("click", (event) => { const to = event.target.closest("[data-at]"); if (to) go(Number(to.dataset.at)); });
  stage.addEventListener("keydown", (event) => { if (event.key === " ") { event.preventDefault(); toggle.click(); } });
  await go(0);
  playing(false);
  root.dataset.ready = "yes";
  window.replayGo = go;
  tick();
}
