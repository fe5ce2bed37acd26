// The live log of a run, and the search in an output. Everything is written as text, never as markup.
"use strict";

const LONGEST = 2000; // lines that an open page keeps
const log = document.getElementById("log");
if (log) {
  const words = JSON.parse(log.dataset.words);
  const zone = log.dataset.zone;
  const follow = document.querySelector("[data-follow]");
  const time = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const toEnd = () => { log.scrollTop = log.scrollHeight; };
  const part = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    element.textContent = text;
    return element;
  };
  const lineOf = (of, data) => {
    const [said, colour] = of === "run" ? words.state[data.state] ?? [data.state, "grey"] : words.outcome[data.outcome] ?? [data.outcome ?? "", "grey"];
    const did = of === "step" ? `${data.step}. ${data.name} · ${words.phase[data.phase]?.[0] ?? data.phase}` : of === "host" ? words.own.done[0] : "";
    const line = part("li", `tone-${colour}`, "");
    const parts = [part("time", "", time.format(new Date())), part("span", "log-host", data.host ?? words.own.run[0]), part("span", "did", did), part("strong", "", said), part("span", "detail", data.detail ?? "")];
    for (const one of parts) line.append(one, " ");
    return line;
  };
  toEnd();
  log.addEventListener("live", ({ detail: { kind, data } }) => {
    const lines = kind === "run.steps" ? [...(data.steps ?? []).map((step) => lineOf("step", step)), ...(data.hosts ?? []).map((host) => lineOf("host", host))] : [lineOf("run", data)];
    log.querySelector("[data-empty]")?.remove();
    log.append(...lines);
    while (log.children.length > LONGEST) log.firstElementChild.remove();
    if (follow.checked) toEnd();
  });
}

// --- on a narrow screen the chosen cell stands below the matrix: lead the eye there ------------------------------
document.addEventListener("htmx:after:swap", () => {
  const cell = document.getElementById("cell");
  if (cell && cell.dataset.asked && matchMedia("(max-width: 1100px)").matches) cell.scrollIntoView({ block: "start" });
  if (cell) delete cell.dataset.asked;
});
document.addEventListener("click", (event) => {
  if (event.target.closest('[hx-target="#cell"]')) document.getElementById("cell").dataset.asked = "yes";
});

// --- search in an output: lines that match, counted and marked ---------------------------------------------------
const whole = new WeakMap();

document.addEventListener("input", (event) => {
  const field = event.target.closest("[data-find]");
  if (!field) return;
  const stream = field.closest(".stream");
  const output = stream.querySelector(".output");
  const found = stream.querySelector("[data-found]");
  if (!whole.has(output)) whole.set(output, output.textContent);
  const text = whole.get(output);
  const wanted = field.value.toLowerCase();
  if (!wanted) { output.textContent = text; found.textContent = ""; return; }
  const pieces = [];
  let lines = 0;
  for (const line of text.split("\n")) {
    const low = line.toLowerCase();
    let from = 0;
    let at = low.indexOf(wanted);
    if (at < 0) continue;
    lines += 1;
    while (at >= 0) {
      const mark = document.createElement("mark");
      mark.textContent = line.slice(at, at + wanted.length);
      pieces.push(line.slice(from, at), mark);
      from = at + wanted.length;
      at = low.indexOf(wanted, from);
    }
    pieces.push(`${line.slice(from)}\n`);
  }
  output.replaceChildren(...pieces);
  found.textContent = found.dataset.found.replace("{n}", lines);
});
