// The plan's list of changes: tick all, and the button says how many are ticked. Without this script the boxes do.
"use strict";

(() => {
const boxes = () => [...document.querySelectorAll(".changes [name=order]")];

function count() {
  const all = boxes(), ticked = all.filter((box) => box.checked).length;
  const whole = document.querySelector("[data-tick-all]"), button = document.querySelector("[data-count-ticks]");
  if (whole) { whole.checked = ticked === all.length; whole.indeterminate = ticked > 0 && ticked < all.length; }
  if (button) {
    button.disabled = !ticked;
    button.querySelector("span").textContent = `${button.dataset.countTicks} (${ticked})`;
  }
}

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-tick-all]")) for (const box of boxes()) box.checked = event.target.checked;
  const agreed = event.target.closest("[name=agreed]"); // who agreed is meant to be moved
  if (agreed) boxes().find((box) => box.value === agreed.value).checked = agreed.checked;
  count();
});
document.addEventListener("htmx:after:swap", count);
document.addEventListener("htmx:afterSwap", count);
count();
})();
