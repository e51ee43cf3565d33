// What scrolls by itself can be reached and scrolled with the keyboard: long formulas, wide figures.
// (The theme does the same for code.)
const scrollers = 'mjx-container[display="true"], figure.wide';

function addStops() {
  for (const it of document.querySelectorAll(scrollers)) {
    if (it.scrollWidth > it.clientWidth) it.tabIndex = 0;
    else it.removeAttribute("tabindex");
  }
}

window.addEventListener("load", () => {
  const typeset = window.MathJax?.startup?.promise ?? Promise.resolve();
  typeset.then(addStops);
  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(addStops, 200);
  });
});

// Paper is white, whatever the screen is.
let shown;
window.addEventListener("beforeprint", () => {
  shown = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
});
window.addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = shown;
});
