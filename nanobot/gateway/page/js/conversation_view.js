// The turns of the chat that is looked at. Follows the end unless its reader has scrolled away.

import { make } from "./elements.js";
import { TurnView } from "./turn_view.js";

const NEAR_PX = 60;

export class ConversationView {
  #views = new Map();
  #chat = null;
  #due = false;
  #following = true;

  constructor({ scroller, conversation, empty, toEnd, decide }) {
    Object.assign(this, { scroller, conversation, empty, toEnd, decide });
    scroller.addEventListener("scroll", () => {
      this.#following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_PX;
      toEnd.hidden = this.#following || !this.#chat?.turns.length;
    }, { passive: true });
    toEnd.addEventListener("click", () => this.follow());
    new ResizeObserver(() => this.#stick()).observe(conversation);
  }

  show(chat) {
    this.#chat = chat;
    this.#views.clear();
    this.conversation.replaceChildren();
    this.#following = true;
    this.refresh();
  }

  follow() {
    this.#following = true;
    this.toEnd.hidden = true;
    this.#stick();
  }

  // Frames come faster than the screen: once per picture is enough.
  refresh() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#draw();
    });
  }

  #draw() {
    const turns = this.#chat?.turns ?? [];
    this.empty.hidden = turns.length > 0;
    this.conversation.hidden = turns.length === 0;
    this.conversation.setAttribute("aria-busy", String(this.#chat?.running ?? false));
    const kept = new Set(turns);
    for (const [turn, view] of this.#views) {
      if (kept.has(turn)) continue;
      view.element.remove();
      this.#views.delete(turn);
    }
    for (const turn of turns) {
      let view = this.#views.get(turn);
      if (!view) {
        view = new TurnView(turn, (requestId, decision) => this.decide(this.#chat, requestId, decision));
        this.#views.set(turn, view);
        this.conversation.append(view.element);
      }
      view.update();
    }
    const note = this.conversation.querySelector(":scope > .history-note");
    if (this.#chat?.truncated && !note) this.conversation.prepend(make("p", { className: "history-note", textContent: "The beginning of this answer is no longer kept here. It is in the history once it is complete." }));
    if (!this.#chat?.truncated) note?.remove();
    this.#stick();
  }

  #stick() { if (this.#following) this.scroller.scrollTop = this.scroller.scrollHeight; }
}
