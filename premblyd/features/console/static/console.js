// Keeps a page current while somebody sees it: it fetches the page again every few seconds, and changes
// what differs in the parts that are marked data-live. All works without it, by reloading.
"use strict";
(() => {
  document.documentElement.classList.add("scripts");
  const parts = () => document.querySelectorAll("[data-live]");
  const status = document.getElementById("live");

  // Nobody's place is lost: a part where somebody types, chooses or has selected text stays.
  const isInUse = (part) => {
    const selection = document.getSelection();
    return part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, button")
      || (selection && !selection.isCollapsed && part.contains(selection.anchorNode))
      || part.querySelector("input:checked") !== null;
  };

  const key = (node) => node.nodeType !== Node.ELEMENT_NODE ? ""
    : node.dataset.id || node.id || node.getAttribute("aria-labelledby") || node.getAttribute("href") || "";

  // What is as it was is not touched: it keeps its scrolling and its focus, and what is open of it.
  const change = (node, fresh) => {
    if (node.isEqualNode(fresh)) return;
    if (node.nodeType !== Node.ELEMENT_NODE) {
      node.data = fresh.data;
      return;
    }
    const isOwn = (name) => name === "open" && node.nodeName === "DETAILS";
    for (const {name} of [...node.attributes]) {
      if (!fresh.hasAttribute(name) && !isOwn(name)) node.removeAttribute(name);
    }
    for (const {name, value} of [...fresh.attributes]) {
      if (node.getAttribute(name) !== value && !isOwn(name)) node.setAttribute(name, value);
    }
    changeWithin(node, fresh);
  };

  const changeWithin = (node, fresh) => {
    const known = new Map([...node.childNodes].reverse().map((child) => [key(child), child]));
    known.delete("");
    let at = node.firstChild;
    for (const child of [...fresh.childNodes]) {
      const same = known.get(key(child));
      known.delete(key(child));
      if (same && same.nodeName === child.nodeName) {
        if (same === at) at = at.nextSibling;
        else node.insertBefore(same, at);
        change(same, child);
      } else if (at && !key(at) && !key(child) && at.nodeName === child.nodeName) {
        const here = at;
        at = at.nextSibling;
        change(here, child);
      } else {
        node.insertBefore(child, at);
        if (child.dataset?.id) child.classList.add("changed");
      }
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  const refresh = async () => {
    const answer = await fetch(location.href, {headers: {Accept: "text/html"}, signal: AbortSignal.timeout(30000)});
    if (!answer.ok || answer.redirected) return false;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of parts()) {
      const fresh = page.getElementById(part.id);
      if (fresh && !isInUse(part)) change(part, fresh);
    }
    return true;
  };

  // What works on now (data-poll) is asked each second until it is done.
  let timer;
  const wait = () => {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, document.querySelector("[data-poll]") ? 1000 : 5000);
  };
  const look = async () => {
    const isLive = await refresh().catch(() => false); // the daemon restarts; the next one may come
    status.textContent = isLive ? "Live" : "Not live: reload to see what is new.";
    wait();
  };
  if (parts().length > 0) {
    status.textContent = "Live";
    document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : look());
    wait();
  }

  // "All" beside a list of boxes, and how many of them are chosen.
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (!(box instanceof HTMLInputElement) || box.type !== "checkbox") return;
    const named = (name) => document.querySelectorAll(`input[type=checkbox][name="${name}"]`);
    if (box.dataset.all) for (const other of named(box.dataset.all)) other.checked = box.checked;
    for (const count of document.querySelectorAll("[data-count]")) {
      const chosen = [...named(count.dataset.count)].filter((other) => other.checked).length;
      count.textContent = chosen ? ` (${chosen})` : "";
    }
  });
})();
