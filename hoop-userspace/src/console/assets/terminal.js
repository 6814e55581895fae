// A terminal's screen: takes what a program printed, and knows which characters stand where, and how
// they look. It answers nothing, opens nothing, and makes no markup; whatever comes, it takes a bounded
// amount of memory. After ECMA-48, and what xterm does beyond it.
"use strict";

globalThis.HoopTerminal = (() => {
  const MAX_COLUMNS = 400;
  const MAX_ROWS = 200;
  const MAX_PARAMETERS = 32;
  const MAX_NUMBER = 9999;
  // Marks that stand on one character.
  const MAX_MARKS = 8;

  const PLAIN = Object.freeze({ fg: null, bg: null, bold: false, dim: false, italic: false, underline: false, inverse: false, strike: false });
  const BLANK = Object.freeze({ text: " ", look: PLAIN, width: 1 });

  // Two columns (East Asian width W and F, and pictures).
  const WIDE = [
    [0x1100, 0x115f], [0x231a, 0x231b], [0x2329, 0x232a], [0x23e9, 0x23ec], [0x25fd, 0x25fe], [0x2614, 0x2615],
    [0x2648, 0x2653], [0x26a1, 0x26a1], [0x26bd, 0x26be], [0x26c4, 0x26c5], [0x26d4, 0x26d4], [0x2705, 0x2705],
    [0x270a, 0x270b], [0x2728, 0x2728], [0x274c, 0x274c], [0x2753, 0x2755], [0x2757, 0x2757], [0x2795, 0x2797],
    [0x2b1b, 0x2b1c], [0x2b50, 0x2b50], [0x2e80, 0x303e], [0x3041, 0x33ff], [0x3400, 0x4dbf], [0x4e00, 0x9fff],
    [0xa000, 0xa4cf], [0xa960, 0xa97f], [0xac00, 0xd7a3], [0xf900, 0xfaff], [0xfe30, 0xfe6f], [0xff00, 0xff60],
    [0xffe0, 0xffe6], [0x16fe0, 0x18cff], [0x1b000, 0x1b2ff], [0x1f300, 0x1f64f], [0x1f680, 0x1f6ff],
    [0x1f7e0, 0x1f7eb], [0x1f900, 0x1f9ff], [0x1fa70, 0x1faff], [0x20000, 0x3fffd],
  ];
  const isWide = (code) => code >= 0x1100 && WIDE.some(([from, to]) => code >= from && code <= to);
  const MARK = /^[\p{Mn}\p{Me}\u200d\ufe00-\ufe0f]$/u;
  // What turns the direction of writing, or shows nothing, would have a reader see another text.
  const HIDDEN = /^[\p{Cf}\p{Zl}\p{Zp}\p{Cs}\u115f\u1160\u3164\uffa0]$/u;

  // What VT100 draws lines with.
  const LINES = "◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·";

  const BASIC = [
    "#000000", "#cd3131", "#0dbc79", "#e5e510", "#3b8eea", "#bc3fbc", "#11a8cd", "#e5e5e5",
    "#767676", "#f14c4c", "#23d18b", "#f5f543", "#6cb6ff", "#d670d6", "#29b8db", "#ffffff",
  ];
  const hex = (...parts) => `#${parts.map((part) => Math.min(255, part).toString(16).padStart(2, "0")).join("")}`;
  const colour = (number) => {
    if (number < 16) return BASIC[number];
    if (number > 231) {
      const grey = 8 + 10 * (number - 232);
      return hex(grey, grey, grey);
    }
    const step = (part) => (part === 0 ? 0 : 55 + 40 * part);
    const cube = number - 16;
    return hex(step(Math.floor(cube / 36)), step(Math.floor(cube / 6) % 6), step(cube % 6));
  };

  const within = (number, least, most) => Math.max(least, Math.min(most, number));

  class Terminal {
    constructor(columns, rows) {
      this.columns = within(Math.floor(columns) || 80, 1, MAX_COLUMNS);
      this.rows = within(Math.floor(rows) || 24, 1, MAX_ROWS);
      // Without a terminal, a line's end says nothing of its beginning.
      this.returns = true;
      this.reset();
    }

    reset() {
      this.screen = this.empty(this.rows);
      this.other = null;
      this.column = 0;
      this.row = 0;
      this.look = PLAIN;
      this.top = 0;
      this.bottom = this.rows - 1;
      this.wraps = true;
      // The last column is written, and the next character begins a line.
      this.full = false;
      this.origin = false;
      this.inserts = false;
      this.cursor = true;
      this.drawing = [false, false];
      this.shift = 0;
      this.saved = null;
      this.stops = new Set();
      for (let column = 8; column < MAX_COLUMNS; column += 8) this.stops.add(column);
      this.state = "text";
      this.last = null;
      this.dirty = new Set();
      this.touch();
    }

    empty(rows) {
      return Array.from({ length: rows }, () => this.line());
    }

    line() {
      // What is erased keeps the colour behind it.
      const blank = this.look && this.look.bg !== null ? { text: " ", look: { ...PLAIN, bg: this.look.bg }, width: 1 } : BLANK;
      return new Array(this.columns).fill(blank);
    }

    blank() {
      return this.look.bg === null ? BLANK : { text: " ", look: { ...PLAIN, bg: this.look.bg }, width: 1 };
    }

    touch() {
      for (let row = 0; row < this.rows; row += 1) this.dirty.add(row);
    }

    // As it is now, to come back to.
    snapshot() {
      const rows = (screen) => screen.map((line) => line.slice());
      const kept = { ...this, screen: rows(this.screen), drawing: this.drawing.slice(), stops: new Set(this.stops) };
      kept.other = this.other && { ...this.other, screen: rows(this.other.screen) };
      kept.saved = this.saved && { ...this.saved };
      kept.numbers = this.numbers && this.numbers.map((part) => part.slice());
      return kept;
    }

    restore(snapshot) {
      const copy = Terminal.prototype.snapshot.call(snapshot);
      Object.assign(this, copy);
      this.dirty = new Set();
      this.touch();
    }

    resize(columns, rows) {
      columns = within(Math.floor(columns) || this.columns, 1, MAX_COLUMNS);
      rows = within(Math.floor(rows) || this.rows, 1, MAX_ROWS);
      const fit = (screen, cursor) => {
        const lines = screen.map((line) => {
          const cut = line.slice(0, columns);
          while (cut.length < columns) cut.push(BLANK);
          if (cut[columns - 1].width === 2) cut[columns - 1] = BLANK;
          return cut;
        });
        const above = Math.max(0, Math.min(lines.length - rows, cursor - rows + 1));
        lines.splice(0, above);
        lines.length = Math.min(lines.length, rows);
        while (lines.length < rows) lines.push(new Array(columns).fill(BLANK));
        return [lines, above];
      };
      const [screen, above] = fit(this.screen, this.row);
      if (this.other) this.other.screen = fit(this.other.screen, this.other.row)[0];
      this.columns = columns;
      this.rows = rows;
      this.screen = screen;
      this.row = within(this.row - above, 0, rows - 1);
      this.column = within(this.column, 0, columns - 1);
      this.top = 0;
      this.bottom = rows - 1;
      this.full = false;
      this.dirty = new Set();
      this.touch();
    }

    write(text) {
      for (const character of text) this.take(character);
    }

    take(character) {
      const code = character.codePointAt(0);
      switch (this.state) {
        case "string":
          // What names a window, sets a clipboard, links or draws: nobody here does.
          if (code === 0x1b) this.state = "escape";
          else if (code === 0x07 || code === 0x18 || code === 0x1a) this.state = "text";
          return;
        case "text":
          if (code < 0x20 || (code > 0x7e && code < 0xa0)) this.control(code);
          else this.put(character, code);
          return;
        default:
      }
      // Controls work within sequences as well.
      if (code === 0x1b) this.begin("escape");
      else if (code === 0x18 || code === 0x1a) this.state = "text";
      else if (code < 0x20) this.control(code);
      else if (code > 0x7e) this.state = "text";
      else if (this.state === "escape") this.escape(character, code);
      else this.sequence(character, code);
    }

    begin(state) {
      this.state = state;
      this.numbers = [[0]];
      this.between = "";
      this.mark = "";
    }

    control(code) {
      switch (code) {
        case 0x08:
          this.column = Math.max(0, this.column - 1);
          this.full = false;
          break;
        case 0x09:
          this.tab(1);
          break;
        case 0x0a:
        case 0x0b:
        case 0x0c:
          this.feed();
          if (!this.returns) this.column = 0;
          break;
        case 0x0d:
          this.column = 0;
          this.full = false;
          break;
        case 0x0e:
          this.shift = 1;
          break;
        case 0x0f:
          this.shift = 0;
          break;
        case 0x1b:
          this.begin("escape");
          break;
        default:
      }
    }

    tab(count) {
      this.full = false;
      for (let left = Math.min(count, this.columns); left > 0 && this.column < this.columns - 1; left -= 1) {
        this.column += 1;
        while (this.column < this.columns - 1 && !this.stops.has(this.column)) this.column += 1;
      }
    }

    put(character, code) {
      if (MARK.test(character)) {
        this.join(character);
        return;
      }
      if (HIDDEN.test(character)) {
        character = "\ufffd";
        code = 0xfffd;
      }
      if (this.drawing[this.shift] && code >= 0x60 && code <= 0x7e) {
        character = LINES[code - 0x60];
      }
      const width = isWide(code) && this.columns > 1 ? 2 : 1;
      if (this.full || (width === 2 && this.column === this.columns - 1)) {
        if (this.wraps) {
          this.column = 0;
          this.feed();
        } else {
          this.column = this.columns - width;
        }
        this.full = false;
      }
      const line = this.screen[this.row];
      if (this.inserts) {
        line.splice(this.column, 0, ...new Array(width).fill(BLANK));
        line.length = this.columns;
        this.mend(line);
      }
      this.part(line, this.column);
      if (width === 2) this.part(line, this.column + 1);
      line[this.column] = { text: character, look: this.look, width };
      if (width === 2) line[this.column + 1] = { text: "", look: this.look, width: 0 };
      this.last = character;
      this.dirty.add(this.row);
      this.column += width;
      if (this.column >= this.columns) {
        this.column = this.columns - 1;
        this.full = true;
      }
    }

    // Half a wide character is none.
    part(line, column) {
      const cell = line[column];
      if (!cell) return;
      if (cell.width === 0 && column > 0) line[column - 1] = BLANK;
      if (cell.width === 2 && column + 1 < this.columns) line[column + 1] = BLANK;
    }

    mend(line) {
      for (let column = 0; column < line.length; column += 1) {
        const next = line[column + 1];
        if (line[column].width === 2 && !(next && next.width === 0)) line[column] = BLANK;
        if (line[column].width === 0 && !(column > 0 && line[column - 1].width === 2)) line[column] = BLANK;
      }
    }

    join(mark) {
      const line = this.screen[this.row];
      let column = this.full ? this.column : this.column - 1;
      if (column > 0 && line[column].width === 0) column -= 1;
      if (column < 0) return;
      const cell = line[column];
      if ([...cell.text].length > MAX_MARKS) return;
      line[column] = { ...cell, text: cell.text + mark };
      this.dirty.add(this.row);
    }

    feed() {
      this.full = false;
      if (this.row === this.bottom) this.scroll(1);
      else if (this.row < this.rows - 1) this.row += 1;
    }

    // Up by so many lines within the region; down, where it is less than nothing.
    scroll(count, from = this.top) {
      const height = this.bottom - from + 1;
      const lines = within(Math.abs(count), 0, height);
      for (let left = lines; left > 0; left -= 1) {
        if (count > 0) {
          this.screen.splice(from, 1);
          this.screen.splice(this.bottom, 0, this.line());
        } else {
          this.screen.splice(this.bottom, 1);
          this.screen.splice(from, 0, this.line());
        }
      }
      for (let row = from; row <= this.bottom; row += 1) this.dirty.add(row);
    }

    escape(character, code) {
      if (code < 0x30) {
        if (this.between.length < 4) this.between += character;
        return;
      }
      this.state = "text";
      if (this.between !== "") {
        const set = "()".indexOf(this.between);
        if (set >= 0) this.drawing[set] = character === "0";
        if (this.between === "#" && character === "8") this.test();
        return;
      }
      switch (character) {
        case "[":
          this.begin("sequence");
          break;
        case "]":
        case "P":
        case "X":
        case "^":
        case "_":
          this.state = "string";
          break;
        case "D":
          this.feed();
          break;
        case "E":
          this.column = 0;
          this.feed();
          break;
        case "M":
          this.full = false;
          if (this.row === this.top) this.scroll(-1);
          else if (this.row > 0) this.row -= 1;
          break;
        case "H":
          this.stops.add(this.column);
          break;
        case "7":
          this.save();
          break;
        case "8":
          this.back();
          break;
        case "c":
          this.reset();
          break;
        default:
      }
    }

    test() {
      for (const line of this.screen) line.fill({ text: "E", look: PLAIN, width: 1 });
      this.touch();
    }

    sequence(character, code) {
      if (code >= 0x30 && code <= 0x39) {
        const part = this.numbers[this.numbers.length - 1];
        part[part.length - 1] = Math.min(MAX_NUMBER, part[part.length - 1] * 10 + code - 0x30);
      } else if (character === ";") {
        if (this.numbers.length < MAX_PARAMETERS) this.numbers.push([0]);
        else this.mark = "too many";
      } else if (character === ":") {
        const part = this.numbers[this.numbers.length - 1];
        if (part.length < 8) part.push(0);
      } else if (code >= 0x3c && code <= 0x3f) {
        this.mark = character;
      } else if (code < 0x30) {
        if (this.between.length < 4) this.between += character;
      } else {
        this.state = "text";
        this.run(character);
      }
    }

    run(final) {
      const [[first], [second] = [0]] = this.numbers;
      const count = Math.max(1, first);
      if (this.mark === "?") {
        if (this.between === "" && (final === "h" || final === "l")) {
          for (const [mode] of this.numbers) this.mode(mode, final === "h");
        }
        return;
      }
      if (this.between === "!" && final === "p") {
        this.soft();
        return;
      }
      if (this.mark !== "" || this.between !== "") return;
      switch (final) {
        case "@":
          this.shove(count);
          break;
        case "A":
        case "F":
          this.move(this.row - count, final === "F" ? 0 : this.column, this.row >= this.top ? this.top : 0);
          break;
        case "B":
        case "e":
        case "E":
          this.move(this.row + count, final === "E" ? 0 : this.column, 0, this.row <= this.bottom ? this.bottom : this.rows - 1);
          break;
        case "C":
        case "a":
          this.move(this.row, this.column + count);
          break;
        case "D":
          this.move(this.row, this.column - count);
          break;
        case "G":
        case "`":
          this.move(this.row, count - 1);
          break;
        case "H":
        case "f":
          this.place(count - 1, Math.max(1, second) - 1);
          break;
        case "d":
          this.place(count - 1, this.column);
          break;
        case "I":
          this.tab(count);
          break;
        case "Z":
          this.full = false;
          for (let left = Math.min(count, this.columns); left > 0 && this.column > 0; left -= 1) {
            this.column -= 1;
            while (this.column > 0 && !this.stops.has(this.column)) this.column -= 1;
          }
          break;
        case "J":
          this.eraseScreen(first);
          break;
        case "K":
          this.erase(this.row, first === 0 ? this.column : 0, first === 1 ? this.column : this.columns - 1);
          break;
        case "L":
        case "M":
          if (this.row >= this.top && this.row <= this.bottom) {
            this.scroll(final === "M" ? count : -count, this.row);
            this.column = 0;
            this.full = false;
          }
          break;
        case "P":
          this.pull(count);
          break;
        case "S":
          this.scroll(count);
          break;
        case "T":
          this.scroll(-count);
          break;
        case "X":
          this.erase(this.row, this.column, Math.min(this.column + count, this.columns) - 1);
          break;
        case "b":
          if (this.last !== null) {
            const again = this.last;
            const most = Math.min(count, this.columns * this.rows);
            for (let left = most; left > 0; left -= 1) this.put(again, again.codePointAt(0));
          }
          break;
        case "g":
          if (first === 0) this.stops.delete(this.column);
          if (first === 3) this.stops.clear();
          break;
        case "h":
        case "l":
          if (this.numbers.some(([mode]) => mode === 4)) this.inserts = final === "h";
          break;
        case "m":
          this.colours();
          break;
        case "r":
          this.region(count - 1, second === 0 ? this.rows - 1 : second - 1);
          break;
        case "s":
          this.save();
          break;
        case "u":
          this.back();
          break;
        default:
      }
    }

    move(row, column, top = 0, bottom = this.rows - 1) {
      this.row = within(row, top, bottom);
      this.column = within(column, 0, this.columns - 1);
      this.full = false;
    }

    place(row, column) {
      if (this.origin) this.move(row + this.top, column, this.top, this.bottom);
      else this.move(row, column);
    }

    region(top, bottom) {
      bottom = Math.min(bottom, this.rows - 1);
      if (top >= bottom) return;
      this.top = top;
      this.bottom = bottom;
      this.place(0, 0);
    }

    shove(count) {
      const line = this.screen[this.row];
      const cells = Math.min(count, this.columns - this.column);
      line.splice(this.column, 0, ...new Array(cells).fill(this.blank()));
      line.length = this.columns;
      this.mend(line);
      this.full = false;
      this.dirty.add(this.row);
    }

    pull(count) {
      const line = this.screen[this.row];
      const cells = Math.min(count, this.columns - this.column);
      line.splice(this.column, cells);
      for (let left = cells; left > 0; left -= 1) line.push(this.blank());
      this.mend(line);
      this.full = false;
      this.dirty.add(this.row);
    }

    erase(row, from, to) {
      const line = this.screen[row];
      if (to < from) return;
      this.part(line, from);
      this.part(line, to);
      line.fill(this.blank(), from, to + 1);
      this.full = false;
      this.dirty.add(row);
    }

    eraseScreen(which) {
      const whole = (from, to) => {
        for (let row = from; row < to; row += 1) this.erase(row, 0, this.columns - 1);
      };
      if (which === 0) {
        this.erase(this.row, this.column, this.columns - 1);
        whole(this.row + 1, this.rows);
      } else if (which === 1) {
        whole(0, this.row);
        this.erase(this.row, 0, this.column);
      } else if (which === 2) {
        whole(0, this.rows);
      }
    }

    mode(mode, on) {
      switch (mode) {
        case 6:
          this.origin = on;
          this.place(0, 0);
          break;
        case 7:
          this.wraps = on;
          this.full = false;
          break;
        case 25:
          this.cursor = on;
          this.dirty.add(this.row);
          break;
        case 47:
        case 1047:
          this.alternate(on);
          break;
        case 1048:
          if (on) this.save();
          else this.back();
          break;
        case 1049:
          if (on) this.save();
          this.alternate(on);
          if (!on) this.back();
          break;
        default:
      }
    }

    alternate(on) {
      if (on === (this.other !== null)) return;
      if (on) {
        this.other = { screen: this.screen, row: this.row, saved: this.saved };
        this.screen = this.empty(this.rows);
      } else {
        this.screen = this.other.screen;
        this.saved = this.other.saved;
        this.other = null;
      }
      this.touch();
    }

    save() {
      const { row, column, look, origin, full, shift } = this;
      this.saved = { row, column, look, origin, full, shift, drawing: this.drawing.slice() };
    }

    back() {
      const saved = this.saved || { row: 0, column: 0, look: PLAIN, origin: false, full: false, shift: 0, drawing: [false, false] };
      this.move(saved.row, saved.column);
      this.look = saved.look;
      this.origin = saved.origin;
      this.full = saved.full;
      this.shift = saved.shift;
      this.drawing = saved.drawing.slice();
    }

    soft() {
      this.look = PLAIN;
      this.top = 0;
      this.bottom = this.rows - 1;
      this.origin = false;
      this.inserts = false;
      this.wraps = true;
      this.cursor = true;
      this.saved = null;
      this.drawing = [false, false];
      this.shift = 0;
    }

    colours() {
      const numbers = this.numbers;
      let look = { ...this.look };
      for (let at = 0; at < numbers.length; at += 1) {
        const part = numbers[at];
        const [code] = part;
        if (code === 0) look = { ...PLAIN };
        else if (code === 1) look.bold = true;
        else if (code === 2) look.dim = true;
        else if (code === 3) look.italic = true;
        else if (code === 4) look.underline = part.length === 1 || part[1] !== 0;
        else if (code === 7) look.inverse = true;
        // 8 would hide text: whoever watches sees it.
        else if (code === 9) look.strike = true;
        else if (code === 21) look.underline = true;
        else if (code === 22) look.bold = look.dim = false;
        else if (code === 23) look.italic = false;
        else if (code === 24) look.underline = false;
        else if (code === 27) look.inverse = false;
        else if (code === 29) look.strike = false;
        else if (code >= 30 && code <= 37) look.fg = colour(code - 30);
        else if (code === 39) look.fg = null;
        else if (code >= 40 && code <= 47) look.bg = colour(code - 40);
        else if (code === 49) look.bg = null;
        else if (code >= 90 && code <= 97) look.fg = colour(code - 82);
        else if (code >= 100 && code <= 107) look.bg = colour(code - 92);
        else if (code === 38 || code === 48 || code === 58) {
          let chosen = null;
          if (part.length > 1) {
            // 38:5:N, 38:2:R:G:B and 38:2:SPACE:R:G:B.
            if (part[1] === 5 && part.length > 2) chosen = colour(Math.min(255, part[2]));
            if (part[1] === 2 && part.length > 4) chosen = hex(...part.slice(-3));
          } else {
            const [kind] = numbers[at + 1] || [0];
            if (kind === 5) chosen = colour(Math.min(255, (numbers[at + 2] || [0])[0]));
            if (kind === 2) chosen = hex(...[2, 3, 4].map((next) => (numbers[at + next] || [0])[0]));
            at += kind === 5 ? 2 : kind === 2 ? 4 : 0;
          }
          if (chosen !== null && code === 38) look.fg = chosen;
          if (chosen !== null && code === 48) look.bg = chosen;
        }
      }
      const plain = Object.keys(PLAIN).every((key) => look[key] === PLAIN[key]);
      this.look = plain ? PLAIN : Object.freeze(look);
    }

    // A row's text, as it can be read.
    text(row) {
      return this.screen[row].map((cell) => cell.text).join("");
    }

    toString() {
      return this.screen.map((_, row) => this.text(row).trimEnd()).join("\n").trimEnd();
    }
  }

  return Terminal;
})();
