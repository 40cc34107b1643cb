// The runtime as an operator wants to see it: numbers, two moving plots, and who waits for what.

import { make } from "./elements.js";
import { Plot } from "./plot.js";
import { Rates } from "./rates.js";

const NUMBERS = [
  ["running", "Runs in their turn"], ["queued", "Runs queued"], ["waiting", "Waiting for the lock"],
  ["sessions", "Live sessions"], ["clients", "Clients"], ["connections", "Model connections"],
  ["ended", "Turns so far"], ["failed", "Failed"],
];

export class RuntimeView {
  constructor(element) {
    this.rates = new Rates();
    this.values = {};
    const numbers = make("dl", { className: "numbers" });
    for (const [key, title] of NUMBERS) {
      this.values[key] = make("dd", { textContent: "0" });
      numbers.append(make("div", {}, make("dt", { textContent: title }), this.values[key]));
    }
    this.speed = this.#plot("Turns", ["turns"], ["--plot-1"], "");
    this.latency = this.#plot("Latency", ["median", "95 %"], ["--plot-1", "--plot-2"], " s");
    this.lockState = make("p", { className: "lock-state" });
    this.waiters = this.#table(["Waits for the lock", "Kind", "For"]);
    this.queues = this.#table(["Session", "State", "Queued"]);
    this.runs = this.#table(["Run of session", "State", "Age"]);
    element.replaceChildren(
      numbers, make("div", { className: "plots" }, this.speed.figure, this.latency.figure),
      make("div", { className: "tables" },
        make("section", {}, make("h2", { textContent: "The lock" }), this.lockState, this.waiters.table),
        make("section", {}, make("h2", { textContent: "Queues" }), this.queues.table),
        make("section", {}, make("h2", { textContent: "Oldest runs" }), this.runs.table),
      ),
    );
  }

  show(frame) {
    const { statistics: seen } = frame;
    const rates = this.rates.add(frame.at_s, seen.turns, frame.bounds_s);
    const values = {
      running: seen.running, queued: seen.queued, waiting: seen.lock.waiting, sessions: seen.live_sessions,
      clients: frame.connections, connections: seen.connections.open, ended: seen.turns.ended, failed: seen.turns.failed,
    };
    for (const [key, value] of Object.entries(values)) this.values[key].textContent = value.toLocaleString();
    this.values.failed.parentElement.classList.toggle("alarm", values.failed > 0);
    this.speed.show(frame.at_s, [rates.turns], [text(rates.turns, "/s")]);
    this.latency.show(frame.at_s, [rates.median, rates.slow], [text(rates.median, " s"), text(rates.slow, " s")]);
    const { lock } = seen;
    this.lockState.textContent = lock.exclusive ? `Held alone by ${lock.holders[0]}.` : lock.held ? `Shared by ${lock.held} ${lock.held === 1 ? "run" : "runs"}.` : "Free.";
    this.waiters.show(lock.waiters.map((one) => [one.session_key, one.exclusive ? "alone" : "shared", age(one.waiting_s)]));
    this.queues.show(seen.sessions.filter((one) => one.busy || one.queued).slice(0, 12).map((one) => [one.session_key, one.busy ? "in a turn" : "idle", one.queued]));
    this.runs.show(seen.runs.slice(0, 12).map((one) => [one.session_key, one.state + (one.exclusive ? ", alone" : ""), age(one.age_s)]));
  }

  redraw() {
    this.speed.plot.draw();
    this.latency.plot.draw();
  }

  #plot(title, keys, colours, unit) {
    const canvas = make("canvas", { role: "img", "aria-label": `${title} over the last five minutes` });
    const shown = keys.map((key, index) => make("span", { className: index ? "key second" : "key", textContent: key }));
    const figure = make("figure", { className: "plot" }, make("figcaption", {}, make("b", { textContent: title }), make("span", { className: "now" }, ...shown)), canvas);
    const plot = new Plot(canvas, { unit, colours });
    return {
      figure, plot,
      show(at, values, texts) {
        texts.forEach((value, index) => { shown[index].textContent = `${keys[index]} ${value}`; });
        plot.add(at, ...values);
      },
    };
  }

  #table(titles) {
    const body = make("tbody");
    const head = make("tr", {}, ...titles.map((title, index) => make("th", { textContent: title, scope: "col", className: index === titles.length - 1 ? "number" : "" })));
    return {
      table: make("table", {}, make("thead", {}, head), body),
      show(rows) {
        body.replaceChildren(...(rows.length ? rows : [["none"]]).map((row) => make("tr", {}, ...row.map((value, index) =>
          make("td", { textContent: value, className: rows.length ? (index === row.length - 1 ? "number" : "") : "none", colSpan: rows.length ? 1 : titles.length })))));
      },
    };
  }
}

function text(value, unit) { return value == null ? "–" : `${value.toFixed(value < 10 ? 2 : 1)}${unit}`; }
function age(s) { return s < 10 ? `${s.toFixed(1)} s` : s < 120 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min`; }
