// A log of any length: only the lines in view are in the page, the rest is fetched by window. Lines are text, never
// markup. What is new is told with its offset, so after a lost connection the page goes on without a gap.
"use strict";

const LINE = 18; // pixels, as .long-log li
const TALLEST = 12_000_000; // pixels that every browser can scroll through
const BLOCK = 250; // lines fetched at once
const SILENT = 5000; // milliseconds without an answer until the page says that the connection is lost
const KEPT = 120; // blocks that stay in memory

class LongLog {
  constructor(box) {
    this.box = box;
    this.view = box.querySelector(".log-view");
    this.space = box.querySelector(".log-space");
    this.rows = box.querySelector(".log-rows");
    this.follow = box.querySelector("[data-follow-log]");
    this.status = box.querySelector("[data-log-status]");
    this.field = box.querySelector("[data-log-words]");
    this.count = box.querySelector("[data-log-count]");
    this.words = JSON.parse(box.dataset.words);
    this.number = new Intl.NumberFormat(document.documentElement.lang);
    this.blocks = new Map();
    this.asked = new Map();
    this.top = 0;
    this.hit = null;
    this.searching = 0;
    this.learn(JSON.parse(box.dataset.counted));
    this.rows.replaceChildren();
    box.classList.add("ready");
    this.listen();
    const first = Number(box.dataset.first);
    if (this.ended || first) { this.follow.checked = false; this.go(first); } else this.go(this.total);
    if (!this.ended) this.subscribe();
  }

  get fits() { return Math.max(1, Math.floor(this.view.clientHeight / LINE)); }
  get last() { return Math.max(0, this.total - this.fits + 1); }
  get tall() { return Math.min(this.total * LINE, TALLEST); }
  get ratio() { return this.last / Math.max(1, this.tall - this.view.clientHeight); } // lines a pixel of the bar

  learn({ total, size, ended }) {
    if (this.total !== undefined && size !== this.size) this.forget(Math.max(0, this.total - 1));
    this.total = total;
    this.size = size;
    this.ended = ended;
    this.space.style.height = `${this.tall}px`;
    this.box.dataset.total = total;
    this.count.textContent = this.words[ended ? "lines" : "growing"].replace("{n}", this.number.format(total));
    this.box.classList.toggle("nothing", total === 0);
  }

  forget(line) { // what may have grown: from the block of this line on
    const from = Math.floor(line / BLOCK);
    for (const number of [...this.blocks.keys()]) if (number >= from) this.blocks.delete(number);
    for (const number of [...this.asked.keys()]) if (number >= from) this.asked.delete(number);
  }

  listen() {
    this.view.addEventListener("scroll", () => {
      if (this.set !== undefined && Math.abs(this.view.scrollTop - this.set) < 2) return this.draw();
      this.set = undefined;
      this.top = Math.min(this.last, this.view.scrollTop * this.ratio);
      this.follow.checked = this.follow.checked && this.top >= this.last - 1;
      this.draw();
    });
    this.view.addEventListener("wheel", (event) => {
      if (this.total * LINE <= TALLEST || event.ctrlKey || event.shiftKey || !event.deltaY) return;
      event.preventDefault(); // one notch is a few lines here too, not a few thousand
      this.go(this.top + event.deltaY / (event.deltaMode ? 1 : LINE), true);
    }, { passive: false });
    this.view.addEventListener("keydown", (event) => {
      const page = this.fits - 1;
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined || event.altKey || event.metaKey) return;
      event.preventDefault();
      this.go(this.top + step, true);
    });
    new ResizeObserver(() => this.draw()).observe(this.view);
    this.follow.addEventListener("change", () => { if (this.follow.checked) this.go(this.total); });
    const form = this.field.form;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.find(event.submitter?.value === "back");
    });
    this.field.addEventListener("input", () => { this.searching += 1; this.hit = null; this.status.textContent = ""; this.draw(); });
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); this.find(true); }
    });
  }

  go(line, moved = false) {
    this.top = Math.max(0, Math.min(line, this.last));
    if (moved) this.follow.checked = this.follow.checked && this.top >= this.last - 1;
    this.view.scrollTop = this.top / (this.ratio || 1);
    this.set = this.view.scrollTop;
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint());
  }

  paint() {
    const first = Math.floor(this.top);
    const stop = Math.min(this.total, first + this.fits + 2);
    const items = [];
    for (let line = first; line < stop; line += 1) {
      const block = this.blocks.get(Math.floor(line / BLOCK));
      items.push(this.row(line, block?.lines[line % BLOCK], block?.cut[line]));
    }
    this.rows.replaceChildren(...items);
    this.rows.style.transform = `translateY(${-Math.round((this.top - first) * LINE)}px)`;
    for (let number = Math.floor(first / BLOCK); number * BLOCK < stop; number += 1) this.need(number);
  }

  row(line, text, cut) {
    const item = document.createElement("li");
    const mark = document.createElement("span");
    mark.className = "nr";
    mark.textContent = line + 1;
    item.append(mark, ...(text === undefined ? ["…"] : this.marked(text)));
    if (cut) item.append(Object.assign(document.createElement("em"), { textContent: ` ${this.words.cut.replace("{n}", this.number.format(cut))}` }));
    if (line === this.hit) item.className = "hit";
    return item;
  }

  marked(text) {
    const wanted = this.field.value.toLowerCase();
    if (!wanted) return [text];
    const low = text.toLowerCase();
    const pieces = [];
    let from = 0;
    for (let at = low.indexOf(wanted); at >= 0; at = low.indexOf(wanted, from)) {
      pieces.push(text.slice(from, at), Object.assign(document.createElement("mark"), { textContent: text.slice(at, at + wanted.length) }));
      from = at + wanted.length;
    }
    return [...pieces, text.slice(from)];
  }

  async need(number) {
    if (this.blocks.has(number) || this.asked.has(number)) return;
    const ticket = Symbol(number);
    this.asked.set(number, ticket);
    await new Promise((done) => setTimeout(done, 40)); // a bar that is dragged does not ask for all it passes
    const first = Math.floor(this.top / BLOCK);
    if (this.asked.get(number) !== ticket) return;
    if (number < first || number * BLOCK > this.top + this.fits + BLOCK) { this.asked.delete(number); return; }
    try {
      const said = await this.ask(this.box.dataset.lines, { line: number * BLOCK, count: BLOCK });
      if (this.asked.get(number) !== ticket) return;
      this.asked.delete(number);
      this.blocks.set(number, said);
      for (const old of this.blocks.keys()) { if (this.blocks.size <= KEPT) break; this.blocks.delete(old); }
      this.draw();
    } catch {
      setTimeout(() => { if (this.asked.get(number) === ticket) { this.asked.delete(number); this.draw(); } }, 2000);
    }
  }

  async ask(address, values) {
    const url = new URL(address, location.href);
    for (const [name, value] of Object.entries(values)) url.searchParams.set(name, value);
    const answer = await fetch(url, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(answer.status);
    return answer.json();
  }

  async find(back) {
    const words = this.field.value;
    if (!words) return;
    const turn = (this.searching += 1);
    const here = this.hit === null ? Math.floor(this.top) : back ? this.hit : this.hit + 1;
    for (const [line, again] of [[here, false], [back ? this.total : 0, true]]) {
      const values = { q: words, line, back: back ? 1 : 0 };
      for (;;) {
        let said;
        try { said = await this.ask(this.box.dataset.find, values); } catch { this.status.textContent = this.words.lost; return; }
        if (turn !== this.searching) return;
        if (said.line !== null) {
          this.hit = said.line;
          this.follow.checked = false;
          this.status.textContent = `${this.words.at.replace("{n}", this.number.format(said.line + 1))}${again ? ` ${this.words.again}` : ""}`;
          this.go(said.line - Math.floor(this.fits / 3));
          return;
        }
        if (said.stopped === null) break;
        values.from = said.stopped;
        this.status.textContent = this.words.searching.replace("{n}", Math.round(100 * said.stopped / Math.max(1, said.size)));
      }
    }
    this.status.textContent = this.words.none;
  }

  subscribe() {
    const url = new URL(this.box.dataset.live, location.href);
    url.searchParams.set("from", this.size);
    const source = new EventSource(url);
    const reached = () => {
      clearTimeout(this.silence);
      this.silence = undefined;
      this.box.classList.remove("lost");
    };
    source.addEventListener("open", reached);
    source.addEventListener("message", ({ data }) => {
      reached();
      this.learn(JSON.parse(data));
      if (this.follow.checked) this.go(this.total); else this.draw();
      if (this.ended) source.close();
    });
    source.addEventListener("error", () => {
      if (this.ended) { source.close(); return; } // each answer ends: only an answer that stays away is a loss
      this.silence ??= setTimeout(() => this.box.classList.add("lost"), SILENT);
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.subscribe(), 2000);
    });
  }
}

for (const box of document.querySelectorAll(".long-log")) box.viewer = new LongLog(box);
