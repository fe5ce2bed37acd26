// Plays the recording of a console: a terminal from its asciicast, a screen from the stream that its server sent.
// Both are states built up from the beginning, so going back means building up anew, at full speed. Of a console that
// is open now the recording is played as it grows.

const root = document.querySelector("[data-player]");
const at = (name) => root.querySelector(`[data-${name}]`);
const [stage, seek, time, speed, skip, toggle] = ["screen", "seek", "time", "speed", "skip", "toggle"].map(at);
const PAUSE = 1000; // milliseconds to which a longer pause is shortened
const NEWS = 1000; // milliseconds between two questions for what is new
const words = root.dataset;

function problem(text) {
  const place = at("problem");
  place.textContent = text;
  place.hidden = false;
}

const clock = (ms) => `${Math.floor(ms / 60000)}:${String(Math.floor(ms / 1000) % 60).padStart(2, "0")}`;

// --- the two kinds: each gives {events: [[ms, ...]], feed(bytes), reset(), show(event), settle()} ----------------------
async function terminal() {
  const { Terminal } = await import("./vendor/xterm-6.0.0/xterm.mjs");
  const view = new Terminal({ disableStdin: true, fontSize: 13, scrollback: 5000, theme: { background: "#10151c" }, fontFamily: "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" });
  const decoder = new TextDecoder();
  const events = [];
  let head = null;
  let rest = "";
  view.open(stage);
  window.replayView = view;
  return {
    events,
    feed(bytes) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const value = JSON.parse(line);
        if (head) events.push([value[0] * 1000, value[1], value[2]]);
        else head = value;
      }
    },
    reset() { view.reset(); if (head) view.resize(head.width, head.height); },
    show([, kind, data]) {
      if (kind === "o") view.write(data);
      if (kind === "r") { const [columns, rows] = data.split("x").map(Number); if (columns > 0 && rows > 0) view.resize(columns, rows); }
    },
    settle: () => new Promise((shown) => view.write("", shown)),
  };
}

async function screen() {
  const { default: RFB } = await import("./vendor/novnc-1.7.0/core/rfb.js");
  stage.classList.add("screen");
  const events = [];
  let rest = new Uint8Array();
  let rfb = null;
  let channel = null;
  return {
    events,
    feed(bytes) {
      const whole = new Uint8Array(rest.length + bytes.byteLength);
      whole.set(rest);
      whole.set(new Uint8Array(bytes), rest.length);
      const view = new DataView(whole.buffer);
      let place = 0;
      while (place + 8 <= whole.length) {
        const [ms, length] = [view.getUint32(place), view.getUint32(place + 4)];
        if (place + 8 + length > whole.length) break;
        events.push([ms, whole.buffer.slice(place + 8, place + 8 + length)]);
        place += 8 + length;
      }
      rest = whole.slice(place);
    },
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

// --- of a console that is open: show at once whatever has come ----------------------------------------------------
async function live(film) {
  let place = 0;
  let next = 0;
  for (;;) {
    const answer = await fetch(`${words.growing}?from=${place}`).catch(() => null);
    if (answer?.ok) {
      const bytes = await answer.arrayBuffer();
      if (bytes.byteLength) {
        film.feed(bytes);
        if (place === 0) film.reset();
        place += bytes.byteLength;
        while (next < film.events.length) film.show(film.events[next++]);
        await film.settle();
        root.dataset.ready = "yes";
        continue;
      }
      if (answer.headers.get("X-Open") !== "yes") { location.reload(); return; } // it has ended: now it can be played
    } else if (answer) { problem(words.missing); return; }
    await new Promise((later) => { setTimeout(later, NEWS); });
  }
}

// --- of one that has ended: play, seek, at any speed --------------------------------------------------------------
async function play(film) {
  const answer = await fetch(words.recording);
  if (!answer.ok) { problem(words.missing); return; }
  if (answer.headers.get("X-Recording") === "changed") problem(words.changed);
  try { film.feed(await answer.arrayBuffer()); } catch { problem(words.changed); }
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

const film = await (words.player === "screen" ? screen : terminal)();
await (words.growing ? live : play)(film);
