// One turn on the screen: what was said, and the blocks of the answer, each updated in place.

import { fileCard } from "./attachments.js";
import { ICONS, icon, make, pretty, seconds } from "./elements.js";
import { renderMarkdown } from "./markdown.js";

const STOPPED = {
  cancelled: "Stopped", error: "Failed", timeout: "Out of time", max_iterations: "Stopped after many steps",
  empty_response: "No answer", budget: "Out of budget", consumer_stalled: "Failed", parked: "Waits for an approval",
};

export class TurnView {
  #blocks = new Map();
  #shown = -1;

  // `decide(requestId, decision)` is called for approvals.
  constructor(turn, decide) {
    this.turn = turn;
    this.decide = decide;
    this.said = make("p");
    this.files = make("ul", { className: "said-files", "aria-label": "Files", hidden: true });
    this.answer = make("div", { className: "answer" });
    this.foot = make("div", { className: "turn-foot" });
    this.wait = make("div", { className: "waiting" });
    this.element = make("article", { className: "turn" }, make("div", { className: "said" }, make("span", { className: "visually-hidden", textContent: "You said: " }), this.files, this.said), this.answer, this.wait, this.foot);
    this.update();
  }

  update() {
    const { turn } = this;
    if (this.#shown === turn.version && !turn.unsent) return;
    this.#shown = turn.version;
    this.element.dataset.turn = turn.id;
    this.element.dataset.state = turn.state;
    this.said.textContent = turn.text;
    this.said.hidden = !turn.text;
    this.said.parentElement.hidden = !turn.text && !turn.files.length;
    this.#showFiles(turn);
    for (const block of turn.blocks) this.#update(block);
    const last = turn.blocks.at(-1);
    const writing = turn.state !== "ended" && last?.kind === "text" && !last.done && last.text !== "";
    this.element.classList.toggle("writing", writing);
    this.#showWaiting(turn, writing, last);
    this.#showFoot(turn);
  }

  #showFiles(turn) {
    if (this.files.childElementCount === turn.files.length) return; // they never change
    this.files.hidden = !turn.files.length;
    this.files.replaceChildren(...turn.files.map((file) => make("li", {}, fileCard(file))));
  }

  #update(block) {
    let view = this.#blocks.get(block);
    if (!view) {
      view = MAKERS[block.kind](block, this);
      this.#blocks.set(block, view);
      this.answer.append(view.element);
    }
    view.update();
  }

  #showWaiting(turn, writing, last) {
    const busy = last && ((last.kind === "tool" && last.phase === "started") || (last.kind === "approval" && !last.decision) || (last.kind === "reasoning" && !last.done));
    let shown = null;
    if (turn.unsent) shown = make("p", { className: "waiting-note", textContent: document.documentElement.dataset.link === "open" ? "Sending" : "Waiting for the connection" });
    else if (turn.state === "queued" && turn.blocks.length === 0) shown = make("p", { className: "waiting-note", textContent: "Waiting for its turn" });
    else if (turn.state === "running" && !writing && !busy) shown = make("span", { className: "thinking", role: "img", "aria-label": "Working" });
    this.wait.replaceChildren(...(shown ? [shown] : []));
  }

  #showFoot(turn) {
    const parts = [];
    if (turn.state === "ended") {
      if (STOPPED[turn.stopReason]) parts.push(STOPPED[turn.stopReason]);
      if (turn.latencyMs !== null) parts.push(seconds(turn.latencyMs));
      if (turn.usage.total_tokens) parts.push(`${turn.usage.total_tokens.toLocaleString()} tokens`);
    }
    this.foot.replaceChildren(...parts.map((text) => make("span", { textContent: text })));
  }
}

const MAKERS = {
  text(block) {
    const element = make("div", { className: "block prose" });
    return { element, update: () => renderMarkdown(element, block.text) };
  },

  reasoning(block) {
    const label = make("span");
    const thought = make("div", { className: "thought" });
    const element = make("details", { className: "block reasoning" }, make("summary", {}, icon(ICONS.chevron), label), thought);
    return {
      element,
      update() {
        label.textContent = !block.done ? "Thinking" : thoughtFor(block);
        if (thought.textContent !== block.text) thought.textContent = block.text;
      },
    };
  },

  tool(block) {
    const status = make("span", { className: "sign" });
    const toolName = make("span", { className: "tool-name" });
    const gist = make("span", { className: "gist" });
    const elapsed = make("span", { className: "elapsed" });
    const inside = make("div", { className: "inside" });
    const element = make("details", { className: "block tool" }, make("summary", {}, status, toolName, gist, elapsed), inside);
    return {
      element,
      update() {
        element.className = `block tool ${block.phase}`;
        const sign = { completed: [ICONS.check, "done"], failed: [ICONS.cross, "failed"], "ended-without": [ICONS.minus, "no result"] }[block.phase];
        status.replaceChildren(...(sign ? [icon(sign[0], "status"), make("span", { className: "visually-hidden", textContent: sign[1] })] : [make("span", { className: "visually-hidden", textContent: "running" })]));
        status.className = sign ? "sign" : "status";
        toolName.textContent = block.name;
        gist.textContent = gistOf(block.arguments);
        elapsed.textContent = block.elapsedMs != null ? seconds(block.elapsedMs) : "";
        inside.replaceChildren(
          make("p", { className: "label", textContent: "Arguments" }), make("pre", { textContent: pretty(block.arguments), tabIndex: 0 }),
          ...(block.error ? [make("p", { className: "label", textContent: "Error" }), make("pre", { className: "wrong", textContent: block.error, tabIndex: 0 })] : []),
          ...(block.result != null && !(block.error && block.result.endsWith(block.error)) ? [make("p", { className: "label", textContent: "Result" }), make("pre", { textContent: block.result || "(nothing)", tabIndex: 0 })] : []),
        );
      },
    };
  },

  approval(block, view) {
    const element = make("section", { className: "block approval", "aria-label": `Approval of ${block.name}` });
    let shown;
    return {
      element,
      update() {
        if (shown === block.decision) return;
        shown = block.decision;
        element.classList.toggle("decided", shown !== null);
        if (shown !== null) {
          const said = { approved: "was allowed", denied: "was refused", expired: "was not decided in time", parked: "waits for a decision", decided: "was decided", withdrawn: "is no longer asked for" }[shown];
          element.replaceChildren(make("code", { textContent: block.name }), ` ${said ?? shown}`);
          return;
        }
        const allow = make("button", { type: "button", className: "solid-button", textContent: "Allow once" });
        const deny = make("button", { type: "button", className: "plain-button", textContent: "Refuse" });
        allow.onclick = () => view.decide(block.id, "approved");
        deny.onclick = () => view.decide(block.id, "denied");
        element.replaceChildren(
          make("h2", { textContent: `Allow ${block.name}?` }),
          make("p", { className: "what", textContent: block.description.split("\n")[0] }),
          make("pre", { textContent: pretty(block.arguments), tabIndex: 0 }),
          make("div", { className: "buttons" }, allow, deny),
        );
      },
    };
  },

  error(block) {
    return { element: make("p", { className: "block trouble", role: "alert", textContent: block.text }), update() {} };
  },
};

function thoughtFor({ startedAt, endedAt }) {
  if (!endedAt) return "Thoughts";
  return endedAt - startedAt < 1000 ? "Thought for a moment" : `Thought for ${seconds(endedAt - startedAt)}`;
}

function gistOf(args) {
  const first = Object.values(args)[0];
  if (first === undefined) return "";
  const text = typeof first === "string" ? first : JSON.stringify(first);
  return text.length > 120 ? `${text.slice(0, 119)}…` : text;
}
