// The queue's clocks go on without moving a row; the composer's tabs. Without this script both work, only less neatly.
"use strict";

// --- queue: fresh clocks and counters each minute; a changed order is told, not imposed ----------------------------
const REFRESH = 60000;
const inOrder = (root) => [...root.querySelectorAll("[data-row]")].map((row) => row.dataset.row).join();

async function refreshQueue() {
  if (document.hidden) return;
  const answer = await fetch(location.href, { headers: { "X-Requested-With": "fetch" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const row of document.querySelectorAll("[data-row]")) {
    const left = row.querySelector(".left");
    const now = fresh.querySelector(`[data-row="${CSS.escape(row.dataset.row)}"] .left`);
    if (now && !left.contains(document.activeElement)) left.replaceChildren(...now.childNodes);
  }
  const counters = fresh.getElementById("counters");
  if (counters) document.getElementById("counters").replaceChildren(...counters.childNodes);
  document.getElementById("changed").hidden = inOrder(fresh) === inOrder(document);
}

if (document.getElementById("changed")) {
  setInterval(refreshQueue, REFRESH);
  document.addEventListener("visibilitychange", refreshQueue);
}

// --- composer ------------------------------------------------------------------------------------------------------

document.documentElement.classList.add("js");
const tabs = [...document.querySelectorAll("[data-tab]")];

function choose(name, focus) {
  for (const tab of tabs) {
    const chosen = tab.dataset.tab === name;
    const panel = document.getElementById(`panel-${tab.dataset.tab}`);
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    panel.hidden = !chosen;
    if (chosen && focus) panel.querySelector("textarea").focus();
  }
}

if (tabs.length) {
  const typed = tabs.find((tab) => location.pathname.endsWith(`/${tab.dataset.tab}`)); // an error brought the page back
  choose(typed ? typed.dataset.tab : "reply", false);
  for (const [place, tab] of tabs.entries()) {
    tab.addEventListener("click", () => choose(tab.dataset.tab, true));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(place + step + tabs.length) % tabs.length];
      choose(next.dataset.tab, false);
      next.focus();
    });
  }
  document.addEventListener("click", (event) => {
    if (event.target.closest('a[href="#reply"]')) { event.preventDefault(); choose("reply", true); }
  });
}
