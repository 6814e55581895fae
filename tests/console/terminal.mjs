// The console's terminal against what ECMA-48 and xterm say of each sequence, and against what means
// harm. Fails by an exception.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const source = readFileSync(process.argv[2], "utf8");
new Function(source)();
const Terminal = globalThis.HoopTerminal;

const screen = (text, columns = 10, rows = 4) => {
  const terminal = new Terminal(columns, rows);
  terminal.write(text);
  return terminal;
};
const E = "\x1b";

const CASES = [
  ["plain", "one\r\ntwo", "one\ntwo"],
  ["wraps, and only when more comes", "0123456789\r\nx", "0123456789\nx"],
  ["wraps", "0123456789ab", "0123456789\nab"],
  ["no wrapping", `${E}[?7l0123456789ab`, "012345678b"],
  ["scrolls", "1\r\n2\r\n3\r\n4\r\n5", "2\n3\n4\n5"],
  ["backspace and tab", "ab\bX\tY", "aX      Y"],
  ["cursor", `${E}[2;3Hx${E}[Ay${E}[2Dz${E}[1E!`, "  zy\n! x"],
  ["column and row", `${E}[5Ga${E}[3db`, "    a\n\n     b"],
  ["erase to the end", `abcdef${E}[3D${E}[K`, "abc"],
  ["erase to the beginning", `abcdef${E}[3D${E}[1K`, "    ef"],
  ["erase the screen", `abc\r\ndef${E}[2J${E}[Hx`, "x"],
  ["erase below", `a\r\nb\r\nc${E}[2;1H${E}[J`, "a"],
  ["characters in and out", `abcdef${E}[1;3H${E}[2@XY${E}[2P`, "abXYef"],
  ["erase characters", `abcdef${E}[1;2H${E}[3X`, "a   ef"],
  ["lines in and out", `1\r\n2\r\n3${E}[2;1H${E}[Lx${E}[3;1H${E}[M`, "1\nx\n3"],
  ["region", `1\r\n2\r\n3\r\n4${E}[2;3r${E}[3;1H\nx`, "1\n3\nx\n4"],
  ["reverse index", `1\r\n2${E}[H${E}M0`, "0\n1\n2"],
  ["origin", `${E}[2;3r${E}[?6h${E}[Ha`, "\na"],
  ["the other screen", `shell${E}[?1049h${E}[Hvi${E}[?1049l!`, "shell!"],
  ["save and restore", `ab${E}7${E}[3;3Hx${E}8c`, "abc\n\n  x"],
  ["lines drawn", `${E}(0lqk${E}(Bq`, "┌─┐q"],
  ["again", `a${E}[3b`, "aaaa"],
  ["wide", "漢字x", "漢字x"],
  ["wide at the edge", "123456789漢", "123456789\n漢"],
  ["half a wide character", `漢${E}[1;2Hx`, " x"],
  ["marks stand on their character", "e\u0301x", "e\u0301x"],
  ["titles and links are nobody's", `a${E}]0;title\x07b${E}]8;;http://x${E}\\c${E}P1;2q#$${E}\\d`, "abcd"],
  ["controls within a sequence", `ab${E}[\b2Cx`, "ab x"],
  ["cancelled", `a${E}[12\x18b${E}]0;t\x1ac`, "abc"],
  ["unknown sequences show nothing", `${E}[?2004ha${E}[>4;1m${E}[6n${E}[c${E}=b`, "ab"],
  ["the direction of writing does not turn", "a\u202eb\u200bc", "a\ufffdb\ufffdc"],
  ["reset", `${E}[31mabc${E}cx`, "x"],
  ["tab stops", `${E}[3g${E}[1;4H${E}H\r\tx${E}[Zy`, "   y"],
];
for (const [name, text, expected] of CASES) {
  assert.equal(screen(text).toString(), expected, name);
  // Whole or in pieces.
  const pieces = new Terminal(10, 4);
  for (const piece of text) pieces.write(piece);
  assert.equal(pieces.toString(), expected, `${name}, in pieces`);
}

const look = (text) => screen(text).screen[0][0].look;
assert.equal(look(`${E}[31mx`).fg, "#cd3131");
assert.equal(look(`${E}[97;44mx`).fg, "#ffffff");
assert.equal(look(`${E}[38;5;196mx`).fg, "#ff0000");
assert.equal(look(`${E}[48;5;244mx`).bg, "#808080");
assert.equal(look(`${E}[38;2;1;2;300mx`).fg, "#0102ff");
assert.equal(look(`${E}[38:2::16:32:48mx`).fg, "#102030");
assert.equal(look(`${E}[1;3;4;7;9mx`).bold, true);
assert.equal(look(`${E}[1;31m${E}[mx`).fg, null);
// The parameters of a colour are no attributes.
assert.equal(look(`${E}[38;5;1mx`).bold, false);
assert.equal(screen(`${E}[44m${E}[K`).screen[0][5].look.bg, "#3b8eea");
// Hidden text is there to be seen.
assert.equal(screen(`${E}[8mpassword`).toString(), "password");

// Without a terminal a line's end begins a line.
const bare = new Terminal(10, 4);
bare.returns = false;
bare.write("one\ntwo");
assert.equal(bare.toString(), "one\ntwo");

// Another size keeps what fits.
const resized = screen("1\r\n2\r\n3\r\n4");
resized.resize(5, 2);
assert.equal(resized.toString(), "3\n4");
resized.resize(1e9, -5);
assert.ok(resized.columns <= 400 && resized.rows >= 1);

// A copy is as it was, whatever happens after it, within a sequence as well.
const copied = screen(`ab${E}[3`);
const copy = copied.snapshot();
for (let time = 0; time < 2; time += 1) {
  copied.write(`1mred${E}[2J${E}[?1049h`);
  copied.restore(copy);
  assert.equal(copied.toString(), "ab");
}
copied.write("1mc");
assert.equal(copied.screen[0][2].look.fg, "#cd3131");

// Whatever comes: the screen keeps its shape, and takes no longer for it.
let seed = 7;
const random = (most) => {
  seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
  return (seed >> 8) % most;
};
const PARTS = [E, `${E}[`, ";", ":", "?", "999999999", "2", "h", "l", "r", "m", "H", "J", "K", "L", "M", "P", "@", "b", "S", "T", "漢", "é", "e\u0301", "\n", "\r", "\t", "\b", "text", "\u202e", "\ud800", `${E}]`, "\x07", `${E}(0`, `${E}c`, `${E}7`, `${E}8`, `${E}[?1049`, `${E}[?6h`];
const harm = screen("", 80, 24);
for (let count = 0; count < 200_000; count += 1) {
  harm.write(PARTS[random(PARTS.length)]);
  if (count % 5000 === 0) {
    harm.resize(1 + random(120), 1 + random(50));
    harm.restore(harm.snapshot());
  }
  if (count % 500 === 0) {
    assert.equal(harm.screen.length, harm.rows);
    for (const line of harm.screen) {
      assert.equal(line.length, harm.columns);
      assert.ok(line.every((cell) => cell && cell.text.length <= 20));
    }
    assert.ok(harm.row >= 0 && harm.row < harm.rows && harm.column >= 0 && harm.column < harm.columns);
  }
}
const began = performance.now();
screen(`${E}[999999999b`.repeat(100) + "x".repeat(100_000) + `${E}[9999S${E}[9999@`.repeat(1000), 400, 200);
assert.ok(performance.now() - began < 20_000);
console.log("ok");
