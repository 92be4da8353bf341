"use strict";
// What a mark stands for is its <title>, which browsers show late and never on touch: told at once.
const told = document.getElementById("told");
const NEAR = 24; // pixels between pointer and mark
let here = null;

function tell(mark) {
  if (here) here.classList.remove("here");
  here = mark;
  told.hidden = !mark;
  if (!mark) return;
  mark.classList.add("here");
  told.textContent = mark.getAttribute("aria-label");
  const at = mark.getBoundingClientRect();
  const box = told.getBoundingClientRect();
  const most = document.documentElement.clientWidth - box.width - 8;
  told.style.left = Math.max(8, Math.min(at.right + 8, most)) + "px";
  const above = at.top - box.height - 8;
  told.style.top = (above > 8 ? above : at.bottom + 8) + "px";
}

function middle(mark) {
  const box = mark.getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2];
}

function reach(marks, event) {
  if (event.target.classList.contains("mark")) return event.target;
  let nearest = null, least = NEAR;
  for (const mark of marks) {
    const [x, y] = middle(mark);
    const apart = Math.hypot(x - event.clientX, y - event.clientY);
    if (apart < least) [nearest, least] = [mark, apart];
  }
  return nearest;
}

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

for (const svg of document.querySelectorAll("figure svg")) {
  const marks = [...svg.querySelectorAll(".mark")];
  for (const mark of marks) {
    const title = mark.querySelector("title");
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  svg.addEventListener("pointermove", (event) => tell(reach(marks, event)));
  svg.addEventListener("pointerdown", (event) => tell(reach(marks, event)));
  svg.addEventListener("pointerleave", () => tell(null));
  svg.addEventListener("blur", () => tell(null));
  svg.addEventListener("keydown", (event) => {
    const now = marks.indexOf(here);
    let next = null;
    if (event.key in STEPS) next = now < 0 ? 0 : now + STEPS[event.key];
    else if (event.key === "Home") next = 0;
    else if (event.key === "End") next = marks.length - 1;
    else if (event.key === "Escape") return tell(null);
    if (next === null || !marks.length) return;
    event.preventDefault();
    tell(marks[Math.max(0, Math.min(next, marks.length - 1))]);
  });
}
