// What a person does with the page, each story in a fresh browser profile. Run by test_page.py:
//   node stories.mjs FOLDER_OF_PLAYWRIGHT CHROMIUM STORY PAGE_URL [JSON]
// Prints what it saw as one JSON object; anything that throws fails the test.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [folder, executablePath, story, base, options = "{}"] = process.argv.slice(2);
const { chromium } = createRequire(`${folder}/`)("playwright-core");
const given = JSON.parse(options);
const PATIENCE_MS = 60_000;

const stdin = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
// Tell the test something, and wait until it has answered.
async function ask(what) {
  console.log(`ask ${what}`);
  await stdin.next();
}

const text = (page) => page.locator(".turn").last().locator(".prose").last();
const written = async (page) => (await text(page).textContent()).trim(); // blocks end with a line
const ended = (page, count = 1) => page.waitForFunction((n) => document.querySelectorAll(".turn[data-state=ended]").length >= n, count);

async function say(page, words) {
  await page.locator("#composer-text").fill(words);
  await page.keyboard.press("Enter");
}

const stories = {
  async type_and_stream(page) {
    await page.waitForSelector("html[data-link=open]");
    await page.keyboard.type("Tell me"); // the field has the focus
    await page.keyboard.press("Enter");
    const lengths = new Set();
    while (!(await page.locator(".turn[data-state=ended]").count())) {
      if (await text(page).count()) lengths.add((await written(page)).length);
      await page.waitForTimeout(20);
    }
    return { text: await written(page), steps: lengths.size, said: await page.locator(".said p").textContent(), title: await page.title() };
  },

  async stop(page) {
    await say(page, "go");
    await page.waitForFunction(() => document.querySelector(".turn .prose")?.textContent.length > 20);
    await page.keyboard.press("Escape");
    await ended(page);
    const first = await page.locator(".turn-foot").first().textContent();
    await say(page, "again");
    await page.waitForFunction(() => document.querySelectorAll(".turn .prose").length === 2);
    await page.locator("#stop").click();
    await ended(page, 2);
    assert.equal(await page.locator("#stop").isHidden(), true);
    return { first, second: await page.locator(".turn-foot").last().textContent() };
  },

  async reload(page) {
    await say(page, "go");
    for (let times = 0; times < 3; times++) {
      const before = (await text(page).count()) ? (await written(page)).length : 0;
      await page.waitForFunction((n) => (document.querySelector(".turn .prose")?.textContent.length ?? 0) > n + 40, before);
      assert.equal(await page.locator(".turn[data-state=ended]").count(), 0);
      await page.reload();
      await page.waitForSelector(".turn .prose");
    }
    await ask("finish");
    await ended(page);
    return { text: await written(page), turns: await page.locator(".turn").count() };
  },

  async cut_off(page, context) {
    await say(page, "go");
    await page.waitForFunction(() => document.querySelector(".turn .prose")?.textContent.length > 40);
    for (let times = 0; times < 3; times++) {
      await ask("cut");
      await page.waitForFunction(() => document.documentElement.dataset.link !== "open");
      await page.waitForSelector("html[data-link=open]");
      await page.waitForTimeout(100);
    }
    await ask("finish");
    await ended(page);
    return { text: await written(page) };
  },

  async restart(page) {
    await say(page, "one");
    await ended(page);
    await ask("kill");
    await page.waitForFunction(() => document.documentElement.dataset.link === "waiting");
    await say(page, "two");
    await page.waitForSelector(".waiting-note");
    const note = await page.locator(".waiting-note").textContent();
    await ask("start");
    await page.waitForSelector("html[data-link=open]");
    await page.waitForFunction(() => [...document.querySelectorAll(".turn[data-state=ended] .said p")].some((p) => p.textContent === "two"));
    return { note, said: await page.locator(".said p").allTextContents(), answer: await written(page) };
  },

  async many_chats(page) {
    await page.waitForSelector("html[data-link=open]");
    for (let number = 0; number < given.count; number++) {
      if (number) await page.keyboard.press("Alt+N");
      await say(page, `chat ${number}`);
    }
    await page.waitForFunction((n) => document.querySelectorAll(".chat-row.running").length === n, given.count);
    await ask("all running");
    await page.waitForFunction(() => !document.querySelector(".chat-row.running"));
    const answers = {};
    for (let number = 0; number < given.count; number++) {
      await page.locator(".chat-row a", { hasText: new RegExp(`^chat ${number}( |\\(|$)`) }).click();
      await ended(page);
      const said = await page.locator(".said p").textContent();
      answers[said] = await written(page);
      assert.equal(await page.locator(".turn").count(), 1);
    }
    return { answers };
  },

  async hostile(page, context, seen) {
    await say(page, "go");
    await ended(page);
    await page.evaluate(() => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
    await page.locator(".chat-row").first().hover();
    await page.reload();
    await ended(page);
    await page.waitForTimeout(300);
    const found = await page.evaluate(() => {
      const inside = [...document.querySelectorAll("#conversation *, #chat-list *, #title")];
      return {
        ran: Boolean(globalThis.__xss),
        forbidden: inside.filter((one) => /^(script|iframe|object|embed|style|link|meta|base|form|math|audio|video)$/i.test(one.tagName)).map((one) => one.tagName),
        svg: inside.filter((one) => one.tagName === "svg" && !one.closest(".chat-row, .sign, summary")).length,
        handlers: inside.flatMap((one) => [...one.attributes].filter((attribute) => /^on|^style$|^srcdoc$|^formaction$/i.test(attribute.name)).map((attribute) => `${one.tagName} ${attribute.name}`)),
        links: [...document.querySelectorAll("#conversation a")].map((one) => one.href).filter((href) => !/^(https?:|mailto:|#|$)/.test(href)),
        openers: [...document.querySelectorAll("#conversation a[href]")].filter((one) => !one.rel.includes("noopener")).length,
        images: [...document.querySelectorAll("#conversation img")].map((one) => one.src).filter((src) => !src.startsWith("data:image/")),
        clobbered: document.getElementById("composer")?.tagName !== "FORM",
        shown: document.querySelectorAll(".turn .prose").length,
        result: document.querySelector(".tool .inside pre:last-of-type")?.textContent ?? "",
      };
    });
    return { ...found, dialogs: seen.dialogs, elsewhere: seen.elsewhere };
  },

  async markdown(page) {
    await say(page, "go");
    await ended(page);
    const columns = await page.locator(".prose tbody tr").first().locator("td").evaluateAll((cells) => cells.map((cell) => getComputedStyle(cell).textAlign));
    const first = await page.locator(".prose ol").evaluate((list) => list.start);
    const tasks = await page.locator(".prose input").evaluateAll((boxes) => boxes.map((box) => [box.type, box.checked, box.disabled]));
    return { columns, first, tasks };
  },

  async approve(page) {
    await say(page, "go");
    await page.locator(".approval button", { hasText: "Allow once" }).click();
    await ended(page);
    await page.locator(".tool summary").first().press("Enter");
    return { decided: await page.locator(".approval").textContent(), tool: await page.locator(".tool").textContent(), elapsed: await page.locator(".tool .elapsed").textContent() };
  },

  async park(page) {
    await say(page, "go");
    await ended(page);
    const waits = await page.locator(".approval").textContent();
    await page.reload();
    await page.locator(".approval button", { hasText: "Allow once" }).click();
    await page.locator(".tool").waitFor();
    await ended(page);
    return { waits, decided: await page.locator(".approval").textContent(), tools: await page.locator(".tool .tool-name").allTextContents(), said: await page.locator(".prose").last().textContent(), turns: await page.locator(".turn").count() };
  },

  async look_around(page) {
    await say(page, "go");
    await ended(page);
    const unnamed = await page.evaluate(() => [...document.querySelectorAll("button, a, input, textarea, summary")]
      .filter((one) => !one.hidden && !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length))
      .map((one) => one.outerHTML.slice(0, 80)));
    const reachable = new Set();
    for (let times = 0; times < 25; times++) {
      await page.keyboard.press("Tab");
      reachable.add(await page.evaluate(() => document.activeElement.id || document.activeElement.className));
    }
    await page.keyboard.press("Alt+R");
    await page.waitForFunction(() => Number(document.querySelector(".numbers dd")?.textContent) >= 0);
    await page.waitForFunction(() => [...document.querySelectorAll(".numbers div")].some((one) => one.textContent.includes("Turns so far") && one.querySelector("dd").textContent === "1"));
    const runtime = { path: new URL(page.url()).pathname, plots: await page.locator("canvas").count() };
    await page.keyboard.press("Alt+R");
    await page.locator("#theme").click();
    const theme = await page.evaluate(() => document.documentElement.dataset.theme);
    await page.reload();
    await ended(page);
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), theme);
    await page.setViewportSize({ width: 360, height: 640 });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await page.locator("#open-sidebar").click();
    await page.waitForSelector("#sidebar.open");
    await page.keyboard.press("Escape");
    const back = await page.evaluate(() => document.activeElement.id);
    return { unnamed, reachable: [...reachable], runtime, theme, overflow, back };
  },

  // Attaches by button, by paste and by drop; takes one away; goes past each limit.
  async attach(page) {
    const chooser = page.waitForEvent("filechooser"); // early: the browser has to be told not to open a window
    await page.waitForSelector("html[data-link=open]");
    const names = () => page.locator("#attached .file-name").allTextContents();
    await page.keyboard.press("Alt+A");
    await (await chooser).setFiles([{ name: "shot one.png", mimeType: "image/png", buffer: Buffer.from(given.png, "base64") }, { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("from a file") }]);
    await page.waitForFunction(() => document.querySelectorAll("#attached li").length === 2);
    const chosen = await names();
    const preview = await page.locator("#attached .picture img").getAttribute("src");
    const bring = (kind, name, size) => page.evaluate(([kind, name, size]) => {
      const carried = new DataTransfer();
      carried.items.add(new File([new Uint8Array(size).fill(65)], name, { type: "text/plain" }));
      const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true }) : new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true });
      document.getElementById("composer-text").dispatchEvent(event);
    }, [kind, name, size]);
    const note = (words) => page.waitForFunction((text) => document.getElementById("composer-note").textContent.includes(text), words);
    await bring("paste", "pasted.txt", 10);
    await page.waitForFunction(() => document.querySelectorAll("#attached li").length === 3);
    await bring("dragenter", "dropped.md", 10);
    const limits = await page.locator("#drop-limits").textContent();
    await bring("drop", "dropped.md", 10);
    await page.waitForFunction(() => document.querySelectorAll("#attached li").length === 4);
    assert.equal(await page.locator("#drop-here").isHidden(), true);
    await page.locator("#attached").getByRole("button", { name: "Remove pasted.txt" }).press("Enter");
    const focused = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
    const refusals = [];
    for (const [name, size, words] of [["empty.txt", 0, "is empty"], ["huge.bin", 11 * 1024 ** 2, "10 MB"]]) {
      await bring("drop", name, size);
      await note(words);
      refusals.push(await page.locator("#composer-note").textContent());
    }
    for (const name of ["a.bin", "b.bin", "c.bin"]) await bring("drop", name, 9 * 1024 ** 2);
    await note("does not fit");
    const kept = await names();
    await page.keyboard.press("Escape");
    await page.locator("#composer-text").fill("look");
    await page.keyboard.press("Enter");
    await ended(page);
    const shown = await page.locator(".said-files .file-name").allTextContents();
    const empty = await page.locator("#attached").isHidden();
    // Files alone are a message, too; and what a server refuses comes back.
    await bring("drop", "alone.txt", 10);
    await page.waitForFunction(() => document.querySelectorAll("#attached li").length === 1);
    await page.locator("#send").click();
    await ended(page, 2);
    await page.reload();
    await page.waitForSelector("html[data-link=open]");
    await ended(page, 2);
    const after = await page.locator(".said-files .file-name").allTextContents();
    return { chosen, preview: preview.slice(0, 22), limits, focused, refusals, kept, shown, empty, after };
  },

  async refused(page) {
    await page.waitForSelector("html[data-link=open]");
    await page.locator("#files").setInputFiles([{ name: "x.txt", mimeType: "text/plain", buffer: Buffer.alloc(given.size, 65) }]);
    await page.waitForSelector("#attached li");
    await page.locator("#composer-text").fill("take this");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.getElementById("composer-note").textContent.startsWith("Not sent"));
    const back = { text: await page.locator("#composer-text").inputValue(), files: await page.locator("#attached .file-name").allTextContents() };
    await page.waitForSelector("html[data-link=open]");
    return { ...back, turns: await page.locator(".turn").count(), note: await page.locator("#composer-note").textContent() };
  },

  async token(page) {
    await page.waitForSelector("#token-dialog[open]");
    await page.keyboard.type("wrong");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.getElementById("token-error").textContent);
    await page.locator("#token-text").fill(given.token);
    await page.keyboard.press("Enter");
    await page.waitForSelector("html[data-link=open]");
    await say(page, "go");
    await ended(page);
    return { text: await written(page) };
  },

  // Every view in each scheme and size: what axe-core finds wrong with it, and a picture of it.
  async inspect(page) {
    const axe = readFileSync(createRequire(`${folder}/`).resolve("axe-core/axe.min.js"), "utf8");
    const found = [];
    async function look(view) {
      for (const scheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
        await page.waitForTimeout(300); // colours change over a moment
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
        for (const one of violations) for (const node of one.nodes) found.push(`${view} ${scheme}: ${one.id}: ${node.html.slice(0, 120)} ${node.any[0]?.message ?? ""}`);
        if (given.folder) await page.screenshot({ path: `${given.folder}/${view}-${scheme}.png` });
      }
    }
    await look("empty");
    if (given.png) {
      await page.locator("#files").setInputFiles([{ name: "load-test.png", mimeType: "image/png", buffer: Buffer.from(given.png, "base64") }, { name: "measurements.csv", mimeType: "text/csv", buffer: Buffer.alloc(48_200, 65) }]);
      await page.waitForFunction(() => document.querySelectorAll("#attached li").length === 2);
      await page.locator("#composer-text").fill(given.question);
      await look("attached");
      await page.setViewportSize({ width: 375, height: 740 });
      await look("phone-attached");
      await page.setViewportSize({ width: 1180, height: 800 });
    }
    await say(page, given.question);
    await page.locator(".approval button", { hasText: "Allow once" }).waitFor();
    await look("approval");
    await page.locator(".approval button", { hasText: "Allow once" }).click();
    await ended(page);
    await look("answer");
    await page.evaluate(() => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
    await look("opened");
    await page.keyboard.press("Escape");
    await page.locator("#help").click();
    await look("help");
    await page.keyboard.press("Escape");
    await page.setViewportSize({ width: 375, height: 740 });
    await look("phone");
    await page.locator("#open-sidebar").click();
    await page.waitForSelector("#sidebar.open");
    await look("phone-list");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Alt+R");
    await page.waitForTimeout(2500); // two looks, so that there is something to plot
    await look("phone-runtime");
    await page.setViewportSize({ width: 1180, height: 800 });
    await look("runtime");
    return { found };
  },
};

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
try {
  const context = await browser.newContext({ viewport: { width: 1180, height: 800 } });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const seen = { errors: [], dialogs: 0, elsewhere: [] };
  const host = new URL(base).host;
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("console", (message) => { if (message.type() === "error" && !/ERR_CONNECTION|WebSocket connection|status of 401/.test(message.text())) seen.errors.push(message.text()); });
  page.on("dialog", (dialog) => { seen.dialogs++; dialog.dismiss(); });
  page.on("request", (request) => { const url = new URL(request.url()); if (!["data:", "blob:"].includes(url.protocol) && url.host !== host) seen.elsewhere.push(request.url()); });
  await page.goto(base);
  const told = await stories[story](page, context, seen);
  console.log(`told ${JSON.stringify({ ...told, errors: seen.errors })}`);
} finally {
  await browser.close();
  process.stdin.destroy(); // or it would keep us alive
}
