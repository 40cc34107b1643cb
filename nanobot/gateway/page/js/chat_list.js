// The chats at the side: newest first, by day, with what runs and what is new.

import { ICONS, icon, make } from "./elements.js";

const DAY_MS = 86_400_000;

export class ChatList {
  constructor({ list, note, open, remove }) {
    Object.assign(this, { list, note, open, remove });
  }

  // `rows`: {id, title, updatedAt, running, unread, excerpt}; `query` is set while searching.
  show(rows, currentId, query) {
    const focused = document.activeElement?.closest?.(".chat-row")?.dataset.chat;
    const elements = [];
    let group = "";
    for (const row of rows) {
      const of = query ? "" : dayOf(row.updatedAt);
      if (of !== group) elements.push(make("li", { className: "group", textContent: of }));
      group = of;
      elements.push(this.#row(row, row.id === currentId));
    }
    this.list.replaceChildren(...elements);
    this.note.hidden = rows.length > 0;
    this.note.textContent = query ? "Nothing was found." : "Chats appear here once you have said something.";
    if (focused) this.list.querySelector(`[data-chat="${focused}"] a`)?.focus();
  }

  #row(row, current) {
    const link = make("a", { href: `/#${row.id}` }, make("span", { className: "name", textContent: row.title || "New chat" }), ...(row.excerpt ? [make("span", { className: "excerpt", textContent: row.excerpt })] : []));
    if (current) link.setAttribute("aria-current", "page");
    const says = [row.running ? "an answer is being written" : "", row.unread ? "unread" : ""].filter(Boolean).join(", ");
    if (says) link.append(make("span", { className: "visually-hidden", textContent: ` (${says})` }));
    link.onclick = (event) => {
      if (event.metaKey || event.ctrlKey) return;
      event.preventDefault();
      this.open(row.id);
    };
    const remove = make("button", { type: "button", className: "icon-button delete", "aria-label": `Delete ${row.title || "this chat"}` }, icon(ICONS.trash));
    remove.onclick = () => this.remove(row);
    const classes = ["chat-row", current && "current", row.running && "running", row.unread && "unread"].filter(Boolean).join(" ");
    const element = make("li", { className: classes }, link, make("span", { className: "state" }), remove);
    element.dataset.chat = row.id;
    return element;
  }
}

function dayOf(iso) {
  if (!iso) return "Today";
  const midnight = new Date().setHours(0, 0, 0, 0);
  const then = new Date(iso).getTime();
  if (!(then < midnight)) return "Today";
  if (then >= midnight - DAY_MS) return "Yesterday";
  if (then >= midnight - 7 * DAY_MS) return "This week";
  return "Earlier";
}
