// The composer's tabs. Without this script its three forms stand below each other and work the same.
"use strict";

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
