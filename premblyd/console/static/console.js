// Keeps a page current: when the daemon says that something changed, it fetches the page again and
// changes what differs in the parts that are marked data-live. All works without it, by reloading.
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
    waiting = false;
    const answer = await fetch(location.href, {headers: {Accept: "text/html"}});
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of parts()) {
      const fresh = page.getElementById(part.id);
      if (fresh && !isInUse(part)) change(part, fresh);
    }
  };

  const changed = (pulse) => {
    if (pulse === last || document.hidden) return;
    last = pulse; // of the first nobody knows whether the page is as new
    if (waiting) return;
    waiting = true;
    setTimeout(() => refresh().catch(() => {}), 300);
  };

  const tell = (isLive) => {
    status.textContent = isLive ? "Live" : "Not live: reload to see what is new.";
  };

  // Browsers open six connections to a host, for all tabs together. So one tab listens, which has
  // the lock, and tells the others. A tab that nobody sees listens to nothing. (Browsers have locks
  // at https:// and at localhost; elsewhere each tab that is seen listens.)
  const follow = () => {
    const channel = new BroadcastChannel("premblyd-live");
    let news = null; // of the stream, as this tab has it
    let end = null; // what ends this tab's stream
    const share = (own) => { news = own; channel.postMessage(own); hear(own); };
    const hear = ({isLive, pulse}) => {
      if (document.hidden) return;
      tell(isLive);
      if (pulse) changed(pulse);
    };
    channel.onmessage = ({data}) => {
      if (data !== "news?") hear(data);
      else if (end && news) channel.postMessage(news);
    };
    const listen = () => new Promise((resolve) => {
      let source, pulse = "", again;
      const open = () => {
        source = new EventSource("/live");
        source.addEventListener("pulse", (message) => { pulse = message.data; share({isLive: true, pulse}); });
        source.onopen = () => share({isLive: true, pulse});
        source.onerror = () => {
          share({isLive: false, pulse});
          if (source.readyState === EventSource.CLOSED) again = setTimeout(open, 10000); // it was refused
        };
      };
      end = () => { clearTimeout(again); source.close(); news = end = null; resolve(); };
      open();
    });
    let waits = null; // ends the wait for the lock
    const begin = () => {
      if (document.hidden || waits) return;
      waits = new AbortController();
      const {signal} = waits;
      channel.postMessage("news?");
      const run = () => signal.aborted ? undefined : listen();
      const asked = navigator.locks ? navigator.locks.request("premblyd-live", {signal}, run) : run();
      Promise.resolve(asked).catch(() => {}); // it was hidden while it waited
    };
    const stop = () => {
      waits?.abort();
      waits = null;
      end?.();
    };
    document.addEventListener("visibilitychange", () => document.hidden ? stop() : begin());
    addEventListener("pagehide", stop);
    addEventListener("pageshow", begin);
    begin();
  };
  if (parts().length > 0 && "EventSource" in window && "BroadcastChannel" in window) follow();

  // What works on now is asked every second until it is done.
  const poll = async () => {
    await refresh().catch(() => {});
    if (document.querySelector("[data-poll]")) setTimeout(poll, 1000);
  };
  if (document.querySelector("[data-poll]")) setTimeout(poll, 500);

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
