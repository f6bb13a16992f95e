// Loads the page again every data-reload seconds, where the reader was: same scroll, same focus. A button stops that; and
// while text is selected, or the page is not to be seen, it waits.
"use strict";
(() => {
  const page = document.documentElement, pause = document.getElementById("pause"), stale = document.getElementById("stale");
  const seconds = Number(page.dataset.reload), written = Number(page.dataset.written);
  const memory = "popnet report " + location.pathname;
  const boxes = () => [...document.querySelectorAll(".scroll")];
  const stops = () => [...document.querySelectorAll("a[href], button, [tabindex='0']")];
  const label = (stop) => stop.getAttribute("href") || stop.id || stop.innerText.split("\n")[0] || stop.getAttribute("aria-label");

  let before = {};
  try {
    before = JSON.parse(sessionStorage.getItem(memory)) || {};
  } catch {
    // A browser that keeps nothing for files: the page starts at its top.
  }
  let paused = Boolean(before.paused);
  const again = performance.getEntriesByType("navigation")[0]?.type === "reload";

  const remember = () => {
    const stop = stops().indexOf(document.activeElement);
    const now = {
      paused,
      at: [scrollX, scrollY],
      beside: boxes().map((box) => box.scrollLeft),
      focus: stop < 0 ? null : label(document.activeElement),
    };
    try {
      sessionStorage.setItem(memory, JSON.stringify(now));
    } catch {
      // As above.
    }
  };
  const show = () => {
    pause.textContent = paused ? "Resume updates" : "Pause updates";
    pause.hidden = false;
  };

  const restore = () => {
    boxes().forEach((box, index) => (box.scrollLeft = before.beside?.[index] ?? 0));
    if (before.at) scrollTo({ left: before.at[0], top: before.at[1], behavior: "instant" });
  };

  show();
  history.scrollRestoration = "manual";
  if (again) {
    if (before.focus) stops().find((stop) => label(stop) === before.focus)?.focus({ preventScroll: true });
    restore();
    addEventListener("load", restore);
  }
  pause.addEventListener("click", () => {
    paused = !paused;
    remember();
    show();
  });
  addEventListener("pagehide", remember);
  setInterval(() => {
    stale.hidden = Date.now() / 1000 - written < Math.max(60, 5 * seconds);
    if (!paused && !document.hidden && getSelection().isCollapsed) location.reload();
  }, 1000 * seconds);
})();
