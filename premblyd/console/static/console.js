// Keeps a page current: when the daemon says that something changed, it fetches the page again and
// puts in place what is marked data-live. All works without it, by reloading.
"use strict";
(() => {
  document.documentElement.classList.add("scripts");
  const parts = () => document.querySelectorAll("[data-live]");
  const status = document.getElementById("live");
  let waiting = false;
  let last = "";

  // Nobody's place is lost: a part where somebody types, chooses or has selected text stays.
  const isInUse = (part) => {
    const selection = document.getSelection();
    return part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, button, summary, pre")
      || (selection && !selection.isCollapsed && part.contains(selection.anchorNode))
      || part.querySelector("input:checked") !== null;
  };

  const keepFocus = (part, replace) => {
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const href = focused && focused.getAttribute("href");
    replace();
    if (href) part.querySelector(`a[href="${CSS.escape(href)}"]`)?.focus({preventScroll: true});
  };

  const refresh = async () => {
    waiting = false;
    const answer = await fetch(location.href, {headers: {Accept: "text/html"}});
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of parts()) {
      const fresh = page.getElementById(part.id);
      if (!fresh || isInUse(part) || fresh.innerHTML === part.innerHTML) continue;
      const known = new Set([...part.querySelectorAll("[data-id]")].map((row) => row.dataset.id));
      keepFocus(part, () => part.replaceChildren(...fresh.childNodes));
      if (!("poll" in fresh.dataset)) delete part.dataset.poll;
      for (const row of part.querySelectorAll("[data-id]")) {
        if (!known.has(row.dataset.id)) row.classList.add("changed");
      }
    }
  };

  const changed = (message) => {
    if (message.data === last) return;
    last = message.data; // of the first nobody knows whether the page is as new
    if (waiting) return;
    waiting = true;
    setTimeout(() => refresh().catch(() => {}), 300);
  };

  if (parts().length > 0 && "EventSource" in window) {
    const source = new EventSource("/live");
    source.addEventListener("pulse", changed);
    source.onopen = () => { status.textContent = "Live"; };
    source.onerror = () => { status.textContent = "Not live: reload to see what is new."; };
    addEventListener("pagehide", () => source.close());
  }

  // What works on now is asked every second until it is done.
  const poll = async () => {
    await refresh().catch(() => {});
    if (document.querySelector("[data-poll]")) setTimeout(poll, 1000);
  };
  if (document.querySelector("[data-poll]")) setTimeout(poll, 500);

  // "All" beside a list of boxes.
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (!(box instanceof HTMLInputElement) || !box.dataset.all) return;
    for (const other of document.querySelectorAll(`input[name="${box.dataset.all}"]`)) other.checked = box.checked;
  });
})();
