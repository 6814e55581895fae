// Drives Chromium: reads one step a line, {"do": …}, and answers each with one line of JSON.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const AXE = readFileSync(fileURLToPath(new URL("node_modules/axe-core/axe.min.js", import.meta.url)), "utf8");
const PATIENCE = 15000;
const WIDE = { width: 1280, height: 800 };
const NARROW = { width: 390, height: 800 };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // As root there is no sandbox; it visits nobody but us.
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
const people = new Map();
let complaints = [];
let page;

async function person(name) {
  if (!people.has(name)) {
    const context = await browser.newContext({ viewport: WIDE, colorScheme: "light" });
    context.setDefaultTimeout(PATIENCE);
    await context.addInitScript({ content: AXE });
    const made = await context.newPage();
    const complain = (text) => complaints.push(text);
    made.on("pageerror", (error) => complain(`${error}`));
    made.on("console", (message) => {
      // A page that says no is an answer; a part of a page that is not there is a mistake.
      const page = !/\/(assets|changes|follow|favicon)/.test(message.location().url);
      const answer = message.text().startsWith("Failed to load resource") && page;
      if (message.type() === "error" && !answer) {
        complain(message.text());
      }
    });
    people.set(name, made);
  }
  page = people.get(name);
}

const steps = {
  person: ({ name }) => person(name),
  go: ({ url }) => page.goto(url, { waitUntil: "domcontentloaded" }),
  click: async ({ at }) => {
    await page.locator(at).first().click();
    await page.waitForLoadState("domcontentloaded");
  },
  fill: ({ at, text }) => page.locator(at).first().fill(text),
  press: ({ key }) => page.keyboard.press(key),
  wait: async ({ at }) => {
    const from = performance.now();
    await page.locator(at).first().waitFor();
    return { ms: Math.round(performance.now() - from) };
  },
  text: async ({ at }) => ({ text: await page.locator(at).first().innerText() }),
  url: () => ({ url: page.url() }),
  axe: async () => {
    const found = await page.evaluate(() => globalThis.axe.run());
    const brief = ({ id, impact, nodes }) => ({ id, impact, at: nodes.map((node) => node.html).slice(0, 3) });
    return { violations: found.violations.map(brief) };
  },
  complaints: () => {
    const said = complaints;
    complaints = [];
    return { complaints: said };
  },
  picture: async ({ path }) => {
    await page.screenshot({ path: `${path}.png`, fullPage: true });
    await page.setViewportSize(NARROW);
    await page.emulateMedia({ colorScheme: "dark" });
    await page.screenshot({ path: `${path}-narrow.png`, fullPage: true });
    // A page that scrolls sideways cannot be read on a phone.
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await page.setViewportSize(WIDE);
    await page.emulateMedia({ colorScheme: "light" });
    if (wide > 0) {
      throw new Error(`the page is ${wide} pixels too wide for a phone`);
    }
  },
};

await person("somebody");
for await (const line of createInterface({ input: process.stdin })) {
  const step = JSON.parse(line);
  if (step.do === "end") {
    break;
  }
  try {
    const answer = await steps[step.do](step);
    // What a step of the browser's own returns is its, not ours.
    const ours = answer && Object.getPrototypeOf(answer) === Object.prototype ? answer : {};
    console.log(JSON.stringify(ours));
  } catch (error) {
    console.log(JSON.stringify({ error: `${error}`.slice(0, 2000), at: page.url() }));
  }
}
await browser.close();
process.exit(0);
