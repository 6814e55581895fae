// Has a page loaded again when something changed, and leaves it alone while somebody writes in it.
"use strict";

// The page is loaded again.
(() => {
  const main = () => document.querySelector("main[data-live]");
  if (!main() || !window.EventSource) return;
  let wanted = false;
  let loading = false;

  // What somebody has opened, written or chosen must not be taken from under the hands.
  const busy = () => {
    const page = main();
    const focus = document.activeElement;
    if (focus && page.contains(focus) && focus.matches("input, textarea, select")) return true;
    if (page.querySelector("details[open]")) return true;
    return [...page.querySelectorAll("textarea, input:not([type=hidden])")].some((field) =>
      field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue,
    );
  };

  const notice = (text) => {
    let line = document.querySelector(".changed");
    if (!line) {
      line = document.createElement("a");
      line.className = "changed";
      line.href = location.href;
      line.setAttribute("role", "status");
      main().before(line);
    }
    line.textContent = text;
  };

  const load = async (quiet) => {
    wanted = true;
    if (loading) return;
    if (busy()) {
      if (quiet !== true) notice("Something changed: load this page again");
      return;
    }
    loading = true;
    wanted = false;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html", "x-hoop-background": "1" }, redirect: "follow" });
      if (answer.redirected) return location.assign(answer.url);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("main");
      if (answer.ok && fresh && !busy()) {
        const at = document.activeElement && document.activeElement.getAttribute("href");
        main().replaceWith(document.adoptNode(fresh));
        document.title = page.title;
        document.querySelector(".changed")?.remove();
        if (at) main().querySelector(`a[href="${CSS.escape(at)}"]`)?.focus();
      }
    } catch {
      notice("The console cannot be reached: load this page again");
    } finally {
      loading = false;
      if (wanted) setTimeout(() => load(true), 300);
    }
  };

  const follow = new EventSource("/changes");
  follow.addEventListener("changed", load);
  // Sessions come and go without a word.
  if (location.pathname === "/") setInterval(() => load(true), 3000);
})();

// Adds to a recording what happens in it.
(() => {
  const timeline = document.querySelector("[data-follow]");
  if (!timeline || !window.EventSource) return;
  const state = document.querySelector("[data-state]");
  const follow = new EventSource(timeline.dataset.follow);
  const say = (text) => state && (state.textContent = text);
  follow.addEventListener("open", () => say("The session goes on; what happens appears here."));
  follow.addEventListener("line", (event) => {
    const near = innerHeight + scrollY > document.body.scrollHeight - 200;
    timeline.insertAdjacentHTML("beforeend", event.data);
    if (near) scrollTo(0, document.body.scrollHeight);
  });
  follow.addEventListener("over", (event) => {
    follow.close();
    say(event.data);
  });
  // A new connection would begin where this one did, and say everything twice.
  follow.addEventListener("error", () => {
    follow.close();
    say("The connection was lost: load the page again.");
  });
})();
