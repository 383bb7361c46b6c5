"use strict";
// Refreshes the live parts of the page, goes from page to page, copies remedies, starts re-syncs
// and shows their progress.
// The function key of the address (`?code=`) is read once, kept in memory, and removed from the
// address bar and the tab's history. From then on it travels in a header of the page's own
// requests, so links and forms are fetched here instead of being followed by the browser.
(() => {
  const REFRESH_MS = 10000;
  const POLL_MS = 1000;
  const here = new URL(location.href);
  const key = here.searchParams.get("code");
  const headers = key ? { "x-functions-key": key } : {};
  here.searchParams.delete("code");
  if (key) history.replaceState(null, "", here);
  let served = new Map();
  let etag = "";
  let polling = false;
  let query = location.search;
  let updatedAt = Date.now();

  const remember = (page) => {
    served = new Map();
    for (const part of page.querySelectorAll("[data-live]")) served.set(part.id, part.outerHTML);
  };

  const age = (seconds) => {
    const past = seconds >= 0;
    let value = Math.abs(seconds);
    const units = [["s", 60], ["min", 60], ["h", 48], ["days", Infinity]];
    for (const [unit, size] of units) {
      if (value < size) {
        const text = `${Math.floor(value)} ${unit}`;
        return past ? `${text} ago` : `in ${text}`;
      }
      value /= unit === "h" ? 24 : size;
    }
    return "";
  };

  const showAges = () => {
    for (const time of document.querySelectorAll("time")) {
      const moment = Date.parse(time.dateTime);
      if (Number.isNaN(moment)) continue;
      time.title = time.dateTime;
      time.textContent = age((Date.now() - moment) / 1000);
    }
    const fresh = document.getElementById("fresh");
    if (fresh) fresh.textContent = `Updated ${age((Date.now() - updatedAt) / 1000)}`;
  };

  const mark = (element) => element && (element.id || element.getAttribute("aria-label"));

  const replace = (page) => {
    const focused = mark(document.activeElement);
    const open = new Map();
    for (const one of document.querySelectorAll("details[id]")) open.set(one.id, one.open);
    const places = new Map();
    for (const one of document.querySelectorAll(".wide")) {
      places.set(one.getAttribute("aria-label"), one.scrollLeft);
    }
    const across = scrollX;
    const down = scrollY;
    for (const part of page.querySelectorAll("[data-live]")) {
      const old = document.getElementById(part.id);
      if (old && served.get(part.id) !== part.outerHTML) old.replaceWith(document.adoptNode(part.cloneNode(true)));
    }
    for (const [id, was] of open) {
      const one = document.getElementById(id);
      if (one) one.open = was;
    }
    for (const one of document.querySelectorAll(".wide")) {
      one.scrollLeft = places.get(one.getAttribute("aria-label")) || 0;
    }
    if (focused && mark(document.activeElement) !== focused) {
      for (const one of document.querySelectorAll("button, a, summary, pre, .wide")) {
        if (mark(one) === focused) { one.focus({ preventScroll: true }); break; }
      }
    }
    scrollTo(across, down);
  };

  const refresh = async () => {
    const wanted = location.search;
    const asked = etag ? { ...headers, "If-None-Match": etag } : headers;
    const answer = await fetch(location.pathname + wanted, { headers: asked, cache: "no-store" });
    const text = await answer.text();
    if (wanted !== location.search) return; // another page was opened meanwhile
    if (answer.status === 200) {
      etag = answer.headers.get("ETag") || "";
      const page = new DOMParser().parseFromString(text, "text/html");
      replace(page);
      remember(page);
    } else if (answer.status !== 304) {
      throw new Error(`the app answered ${answer.status}`);
    }
    query = wanted;
    updatedAt = Date.now();
    showAges();
  };

  const tryRefresh = async () => {
    try {
      await refresh();
    } catch (error) {
      const fresh = document.getElementById("fresh");
      if (fresh) fresh.textContent = `Not refreshed: ${error.message}`;
    }
  };

  // Shows the address that the tab has now, in the filter too.
  const arrive = () => {
    const wanted = new URLSearchParams(location.search);
    for (const field of document.getElementById("filter").elements) {
      if (field.type === "checkbox") field.checked = ["1", "true"].includes(wanted.get(field.name));
      else if (field.name) field.value = wanted.get(field.name) || "";
    }
    return tryRefresh();
  };

  const visit = (search) => {
    history.pushState(null, "", location.pathname + search);
    return arrive();
  };

  const keepFresh = async () => {
    if (!document.hidden) await tryRefresh();
    setTimeout(keepFresh, REFRESH_MS);
  };

  const copy = async (button) => {
    const text = button.parentElement.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = document.createElement("textarea");
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
      button.focus();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };

  const line = (text, name = "p") => {
    const one = document.createElement(name);
    one.textContent = text;
    return one;
  };

  const show = (shown) => {
    const box = document.getElementById("progress");
    box.hidden = false;
    box.dataset.state = shown.state;
    const bar = document.createElement("progress");
    bar.max = Math.max(shown.total, 1);
    bar.value = shown.done + shown.failed;
    bar.setAttribute("aria-label", "progress of the re-sync");
    const done = shown.state === "done";
    const left = shown.left_s === null ? "" : `, about ${shown.left_s} s left`;
    const words = `${shown.done} of ${shown.total} done, ${shown.failed} failed`;
    const rate = `${shown.rate_per_s.toFixed(1)} a second`;
    box.replaceChildren(
      line(done ? `Re-sync done: ${words}.` : `Re-sync running: ${words}, ${rate}${left}.`),
      bar,
    );
    for (const item of shown.items) {
      if (item.state !== "failed") continue;
      for (const result of item.results) {
        if (!result.error) continue;
        box.append(line(`${result.job || item.name}: ${result.error}. ${result.remedy || ""}`));
      }
    }
  };

  const fail = (text) => {
    const box = document.getElementById("progress");
    box.hidden = false;
    box.dataset.state = "failed";
    box.replaceChildren(line(text));
  };

  const follow = async (id) => {
    polling = true;
    try {
      for (;;) {
        const answer = await fetch(`resync/${id}`, { headers });
        const shown = await answer.json();
        if (!answer.ok) { fail(shown.detail || `The app answered ${answer.status}.`); return; }
        show(shown);
        if (shown.state === "done") break;
        await new Promise((wake) => setTimeout(wake, POLL_MS));
      }
      await refresh();
    } finally {
      polling = false;
    }
  };

  const resync = async (button) => {
    if (polling) return;
    const wanted = { scope: button.dataset.scope, mode: button.dataset.mode || "apply" };
    if (button.dataset.account) wanted.account = button.dataset.account;
    if (button.dataset.job) Object.assign(wanted, { job: button.dataset.job, force: true, parts: ["jobs"] });
    button.disabled = true;
    try {
      const answer = await fetch("resync", {
        method: "POST",
        headers: { ...headers, "Content-Type": "application/json" },
        body: JSON.stringify(wanted),
      });
      const shown = await answer.json().catch(() => ({}));
      if (!answer.ok) {
        const words = [shown.detail || `The app answered ${answer.status}`, shown.remedy];
        fail(`${words.filter(Boolean).join(". ")}.`);
        return;
      }
      show(shown);
      await follow(shown.id);
    } catch (error) {
      fail(`The re-sync could not be followed: ${error.message}.`);
    } finally {
      button.disabled = false;
    }
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="?"]');
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      visit(link.getAttribute("href"));
    }
    const button = event.target.closest("button");
    if (!button) return;
    if (button.classList.contains("copy")) copy(button);
    if (button.classList.contains("resync")) resync(button);
  });

  document.getElementById("filter").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = [...new FormData(event.target)].filter(([, value]) => value);
    visit(given.length ? `?${new URLSearchParams(given)}` : "");
  });
  addEventListener("popstate", () => { if (location.search !== query) arrive(); });

  remember(document);
  showAges();
  setInterval(showAges, 1000);
  setTimeout(keepFresh, REFRESH_MS);
})();
