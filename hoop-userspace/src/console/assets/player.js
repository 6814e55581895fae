// Plays a session's terminal: what was printed, when it was printed, at any speed and from any moment;
// what goes on is shown as it happens. Whatever was printed becomes text, never markup.
"use strict";

(() => {
  const section = document.querySelector("section[data-cast]");
  if (!section || !globalThis.HoopTerminal) return;
  const find = (name) => section.querySelector(`[data-${name}]`);
  const [play, place, clock, speed, skip, now, said] = ["play", "place", "clock", "speed", "skip", "now", "said"].map(find);
  const paper = section.querySelector(".screen pre");

  // Characters that one page keeps; a session that printed more is played by `hoop replay`.
  const MOST = 64 << 20;
  // Between two copies of the screen, to go back to.
  const APART = 512 << 10;
  const COPIES = 64;
  // Characters that are taken before the page may do something else.
  const SLICE = 128 << 10;
  // A pause longer than this is skipped, in seconds.
  const PAUSE = 1.5;
  const STEP = 5;

  const events = [];
  let characters = 0;
  let full = false;
  let over = false;
  let terminal = new HoopTerminal(80, 24);
  // Events that the screen has taken, and how many characters they were.
  let taken = 0;
  let fed = 0;
  let copies = [];
  // Seconds since the beginning.
  let time = 0;
  let playing = false;
  let following = false;
  let last = null;
  let turn = 0;
  let rows = [];
  // Where the cursor was drawn.
  let drawn = 0;

  const end = () => (events.length ? events[events.length - 1][0] : 0);
  const say = (text) => {
    if (said.textContent !== text) said.textContent = text;
  };

  // The screen.

  const draw = () => {
    if (rows.length !== terminal.rows) {
      rows = Array.from({ length: terminal.rows }, () => document.createElement("div"));
      paper.replaceChildren(...rows);
      terminal.touch();
    }
    if (drawn !== terminal.row) terminal.dirty.add(drawn);
    terminal.dirty.add(terminal.row);
    drawn = terminal.row;
    for (const row of terminal.dirty) {
      if (rows[row]) rows[row].replaceChildren(...spans(row));
    }
    terminal.dirty.clear();
  };

  const spans = (row) => {
    const made = [];
    let run = null;
    terminal.screen[row].forEach((cell, column) => {
      if (cell.width === 0) return;
      const cursor = terminal.cursor && row === terminal.row && column === terminal.column;
      if (run && !cursor && !run.cursor && cell.width === 1 && !run.wide && run.look === cell.look) {
        run.text += cell.text;
        return;
      }
      run = { text: cell.text, look: cell.look, wide: cell.width === 2, cursor };
      made.push(run);
    });
    return made.map(span);
  };

  const span = ({ text, look, wide, cursor }) => {
    const node = document.createElement("span");
    node.textContent = text;
    for (const name of ["bold", "dim", "italic", "underline", "strike"]) {
      if (look[name]) node.classList.add(name);
    }
    if (wide) node.classList.add("wide");
    if (cursor) node.classList.add("cursor");
    const [fg, bg] = look.inverse ? [look.bg || "#101418", look.fg || "#e4e9ed"] : [look.fg, look.bg];
    if (fg) node.style.color = fg;
    if (bg) node.style.backgroundColor = bg;
    return node;
  };

  const written = (seconds) => {
    const whole = Math.floor(seconds);
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(whole / 3600);
    const minutes = Math.floor(whole / 60) % 60;
    return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  };

  const show = () => {
    draw();
    const whole = end();
    if (place.max !== String(whole)) place.max = String(whole);
    place.value = String(time);
    place.setAttribute("aria-valuetext", `${written(time)} of ${written(whole)}`);
    clock.textContent = `${written(time)} / ${written(whole)}`;
    play.textContent = playing || following ? "Pause" : "Play";
    now.hidden = over || following || !section.dataset.watch;
  };

  // Time.

  const take = ([, kind, text]) => {
    if (kind === "o") {
      terminal.write(text);
      fed += text.length;
    } else if (kind === "r") {
      const [columns, lines] = text.split("x").map(Number);
      // Whoever has a terminal is told of line ends as one wants them.
      terminal.returns = true;
      terminal.resize(columns, lines);
    }
  };

  // Takes what was printed until then. Stops where another has begun.
  const advance = async (mine) => {
    let begun = fed;
    while (taken < events.length && events[taken][0] <= time) {
      take(events[taken]);
      taken += 1;
      const before = copies.length ? copies[copies.length - 1].fed : 0;
      if (fed - before > APART && copies.length < COPIES) {
        copies.push({ fed, taken, screen: terminal.snapshot() });
      }
      if (fed - begun > SLICE) {
        await new Promise((go) => setTimeout(go, 0));
        if (mine !== turn) return false;
        begun = fed;
      }
    }
    return true;
  };

  const begin = () => {
    terminal = new HoopTerminal(80, 24);
    terminal.returns = false;
    taken = 0;
    fed = 0;
  };

  const seek = async (to) => {
    turn += 1;
    const mine = turn;
    time = Math.max(0, Math.min(end(), to));
    const behind = taken > 0 && events[taken - 1][0] > time;
    const near = [...copies].reverse().find((copy) => events[copy.taken - 1][0] <= time);
    if (behind || (near && near.taken > taken)) {
      begin();
      if (near) {
        terminal.restore(near.screen);
        ({ taken, fed } = near);
      }
    }
    if (await advance(mine)) show();
  };

  const tick = async (at) => {
    if (!playing) return;
    const mine = turn;
    if (last !== null) time += ((at - last) / 1000) * Number(speed.value);
    last = at;
    const next = events[taken];
    if (skip.checked && next && next[0] - time > PAUSE) time = next[0] - PAUSE / 2;
    if (time >= end()) {
      time = end();
      playing = false;
    }
    if (!(await advance(mine))) {
      requestAnimationFrame(tick);
      return;
    }
    if (playing) requestAnimationFrame(tick);
    else if (over || full || !section.dataset.watch) say("That was all.");
    else return void follow();
    show();
  };

  const start = () => {
    if (playing) return;
    playing = true;
    last = null;
    say("");
    requestAnimationFrame(tick);
  };

  const stop = () => {
    playing = false;
    following = false;
    show();
  };

  const toggle = async () => {
    if (playing || following) return stop();
    if (time >= end()) await seek(0);
    start();
    show();
  };

  const go = (to) => {
    following = false;
    return seek(to);
  };

  const follow = async () => {
    playing = false;
    following = true;
    say("The session goes on; what is printed appears here.");
    await seek(end());
  };

  // What there is to play.

  const add = (more) => {
    for (const event of more) {
      if (full) return;
      characters += event[2].length;
      full = characters > MOST;
      if (event[1] === "m") say(`At ${written(event[0])}, ${event[2]}.`);
      events.push(event);
    }
    if (full) say("It printed too much for this page: hoop replay --play shows all of it.");
    if (events.length > 0) section.hidden = false;
  };

  const load = async () => {
    let from = 0;
    while (from !== null && !full) {
      const answer = await fetch(`${section.dataset.cast}?from=${from}`, { headers: { accept: "application/json", "x-hoop-background": "1" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = await answer.json();
      add(page.events);
      if (page.problem) say(`What follows cannot be believed: ${page.problem}`);
      over = page.over || Boolean(page.problem);
      if (from === 0 && (over || !section.dataset.watch)) {
        // The first that there is to see.
        const first = events.find(([, kind]) => kind === "o");
        await seek(first ? first[0] : 0);
      }
      from = page.next;
      show();
    }
  };

  const watch = () => {
    if (over || full || !section.dataset.watch || !window.EventSource) return;
    const stream = new EventSource(`${section.dataset.watch}?from=${events.length}`);
    stream.addEventListener("cast", async (event) => {
      add(JSON.parse(event.data));
      if (full) stream.close();
      if (following && !playing) await seek(end());
      else show();
    });
    stream.addEventListener("over", (event) => {
      stream.close();
      over = true;
      following = false;
      say(event.data);
      show();
    });
    stream.addEventListener("error", () => {
      // By itself it would begin where it began, and say everything twice.
      stream.close();
      if (!over) setTimeout(watch, 3000);
    });
  };

  play.addEventListener("click", toggle);
  now.addEventListener("click", follow);
  place.addEventListener("input", () => go(Number(place.value)));
  section.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target === speed) return;
    const elsewhere = event.target.matches("button, input[type=checkbox]");
    const choices = [...speed.options];
    const faster = (by) => {
      speed.selectedIndex = Math.max(0, Math.min(choices.length - 1, speed.selectedIndex + by));
      say(`Speed ${choices[speed.selectedIndex].textContent}`);
    };
    const keys = {
      ArrowLeft: () => go(time - STEP),
      ArrowRight: () => go(time + STEP),
      Home: () => go(0),
      End: () => go(end()),
      "<": () => faster(-1),
      ">": () => faster(1),
      " ": toggle,
    };
    const act = keys[event.key];
    if (!act || (elsewhere && event.key === " ")) return;
    event.preventDefault();
    act();
  });

  begin();
  load()
    .then(async () => {
      if (!over && section.dataset.watch) await follow();
      watch();
    })
    .catch(() => {
      section.hidden = false;
      say("The recording cannot be loaded: load this page again.");
    });
})();
