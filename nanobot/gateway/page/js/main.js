// The page: what is typed goes out, what comes in is shown. Everything else has a file of its own.

import { Attachments } from "./attachments.js";
import { Chat } from "./chat.js";
import { ChatList } from "./chat_list.js";
import { Connection, name, store } from "./connection.js";
import { ConversationView } from "./conversation_view.js";
import { RuntimeView } from "./runtime_view.js";

const HISTORY = 200; // messages of a chat that is opened
const ATTACHED = 40; // chats whose frames we get at once; those not looked at for longest are let go
const CHAT_ID = /^[A-Za-z0-9_:-]{1,64}$/;
const at = (id) => document.getElementById(id);

const chats = new Map();
const opened = []; // ids, the last one was opened last
let current = null;
let listed = [];
let found = null; // rows of a search
let runtime = null; // the view, once it was asked for
let refreshing = 0;
let noted = 0;

const connection = new Connection({
  onOpen() {
    for (const chat of chats.values()) chat.attached = false;
    refreshList();
    for (const id of opened.slice(-ATTACHED)) attach(chats.get(id));
    if (runtimeIsShown()) connection.send({ type: "watch_runtime" });
  },
  onFrame: take,
  onState(state, seconds) {
    at("link-state").textContent = state === "open" ? "" : state === "connecting" ? "Connecting" : seconds > 3 ? "Offline, trying again soon" : "Reconnecting";
    document.documentElement.dataset.link = state;
    if (current?.unsent.length) changed(current, false);
  },
  onTooLong() {
    for (const chat of chats.values()) {
      for (const turn of chat.unsent) if (turn.files.length) giveBack(chat, turn.id, "The server does not take messages of that size.");
    }
  },
  askToken(problem) {
    at("token-error").textContent = problem;
    at("token-dialog").showModal();
  },
});

const conversation = new ConversationView({
  scroller: at("scroller"), conversation: at("conversation"), empty: at("empty"), toEnd: at("to-end"),
  decide: (chat, requestId, decision) => connection.send({ type: "approval", chat_id: chat.id, request_id: requestId, decision }),
});

const attachments = new Attachments({ list: at("attached"), changed: showComposer, tell: say });

const list = new ChatList({
  list: at("chat-list"), note: at("list-note"), open,
  remove(row) {
    if (confirm(`Delete “${row.title || "New chat"}”? It cannot be brought back.`)) connection.send({ type: "delete_chat", chat_id: row.id });
  },
});

function take(frame) {
  switch (frame.event) {
    case "ready":
      at("model").textContent = frame.model ?? "";
      attachments.limits = frame.limits;
      at("attach").title = `Attach files: ${attachments.limitsInWords}`;
      break;
    case "message_accepted": {
      const chat = chats.get(frame.chat_id);
      if (chat?.accept(frame.turn_id)) changed(chat);
      break;
    }
    case "chats":
      if (frame.query !== undefined) found = frame.query === at("search").value.trim() ? frame.chats : found;
      else listed = frame.chats;
      for (const row of frame.chats) {
        const chat = chats.get(row.chat_id);
        if (chat) Object.assign(chat, { title: row.title, updatedAt: row.updated_at, listed: true });
      }
      showList();
      break;
    case "attached": {
      const chat = chatOf(frame.chat_id);
      chat.attach(frame);
      for (const turn of chat.unsent) sendTurn(chat, turn);
      changed(chat);
      break;
    }
    case "chat_deleted":
      forget(frame.chat_id);
      break;
    case "runtime":
      if (runtime && runtimeIsShown()) runtime.show(frame);
      break;
    case "error":
      if (frame.seq !== undefined) takeChatFrame(frame);
      else takeRefusal(frame);
      break;
    default:
      if (frame.chat_id && frame.seq !== undefined && frame.turn_id) takeChatFrame(frame);
  }
}

function takeRefusal(frame) {
  if (frame.reason === "rate_limited") setTimeout(sendAgain, 1000 * (frame.retry_after_s ?? 1)); // it does not say what it was
  else if (frame.reason === "draining") say(frame.detail); // what is unsent is sent to the next server
  else if (!giveBack(chats.get(frame.chat_id), frame.turn_id, frame.detail)) say(frame.detail);
}

// A message that the server will not have goes back to where it was written, if nothing else is written there by now.
function giveBack(chat, turnId, why) {
  const turn = chat?.refuse(turnId);
  if (!turn) return false;
  if (chat === current && !at("composer-text").value && attachments.empty) {
    at("composer-text").value = turn.text;
    attachments.putBack(turn.files);
    fit();
  }
  say(`Not sent: ${why}`);
  changed(chat);
  return true;
}

function sendAgain() {
  for (const chat of chats.values()) for (const turn of chat.unsent) sendTurn(chat, turn);
}

function takeChatFrame(frame) {
  const chat = chats.get(frame.chat_id);
  if (!chat?.attached) return;
  const turn = chat.take(frame);
  if (!turn) return;
  if (frame.event === "user_message" && !chat.title) chat.title = (turn.text || turn.files[0]?.name || "").slice(0, 80);
  if (frame.event === "turn_end") {
    chat.unread = chat !== current || document.hidden || runtimeIsShown();
    if (chat === current) announce(turn);
    refreshList();
  }
  changed(chat, ["user_message", "turn_start", "turn_end"].includes(frame.event));
}

function changed(chat, inList = true) {
  if (inList) showList();
  if (chat !== current) return;
  conversation.refresh();
  showComposer();
  showTitle();
}

function chatOf(id) {
  let chat = chats.get(id);
  if (!chat) {
    chat = new Chat(id);
    const row = listed.find((one) => one.chat_id === id);
    if (row) Object.assign(chat, { title: row.title, updatedAt: row.updated_at, listed: true });
    chats.set(id, chat);
  }
  return chat;
}

function attach(chat) {
  if (!connection.open || !chat) return;
  connection.send({ type: "attach", chat_id: chat.id, epoch: chat.epoch, after: chat.epoch ? chat.seq : 0, history: HISTORY });
}

function open(id, { focus = true } = {}) {
  current = chatOf(id);
  current.unread = false;
  const known = opened.indexOf(id);
  if (known >= 0) opened.splice(known, 1);
  opened.push(id);
  if (!current.attached) attach(current);
  letGo();
  if (location.pathname !== "/" || location.hash !== `#${id}`) history.pushState(null, "", `/#${id}`);
  showView();
  conversation.show(current);
  showList();
  showTitle();
  showComposer();
  closeSidebar();
  if (focus && matchMedia("(hover: hover)").matches) at("composer-text").focus();
}

function letGo() {
  while (opened.length > ATTACHED) {
    const id = opened.find((one) => one !== current.id && !chats.get(one)?.running && !chats.get(one)?.unsent.length);
    if (!id) return;
    opened.splice(opened.indexOf(id), 1);
    chats.delete(id);
    connection.send({ type: "detach", chat_id: id });
  }
}

function forget(id) {
  chats.delete(id);
  listed = listed.filter((row) => row.chat_id !== id);
  found = found?.filter((row) => row.chat_id !== id) ?? null;
  if (opened.includes(id)) opened.splice(opened.indexOf(id), 1);
  if (current?.id === id) newChat();
  else showList();
}

function newChat() { open(name("chat").replace("chat-", "")); }

function send() {
  const field = at("composer-text");
  const text = field.value.trim();
  if (attachments.busy || (!text && attachments.empty)) return;
  const turn = current.say(name("turn"), text, attachments.take());
  if (!current.title) current.title = (text || turn.files[0].name).slice(0, 80);
  sendTurn(current, turn);
  field.value = "";
  fit();
  conversation.follow();
  changed(current);
}

function sendTurn(chat, turn) {
  const media = turn.files.map((file) => ({ data_url: file.dataUrl, name: file.name }));
  if (chat.attached) connection.send({ type: "message", chat_id: chat.id, turn_id: turn.id, content: turn.text, ...(media.length ? { media } : {}) });
}

function stop() { if (current?.running) connection.send({ type: "cancel", chat_id: current.id }); }

function showList() {
  const rows = (found ?? listed).map((row) => {
    const chat = chats.get(row.chat_id);
    return { id: row.chat_id, title: row.title, updatedAt: row.updated_at, excerpt: row.excerpt ?? "", running: chat?.attached ? chat.running : row.running, unread: chat?.unread };
  });
  if (!found) {
    const known = new Set(rows.map((row) => row.id));
    const fresh = [...chats.values()].filter((chat) => !known.has(chat.id) && chat.turns.length);
    rows.unshift(...fresh.reverse().map((chat) => ({ id: chat.id, title: chat.title, updatedAt: "", excerpt: "", running: chat.running, unread: chat.unread })));
  }
  list.show(rows, runtimeIsShown() ? null : current?.id, found !== null);
}

function showTitle() {
  const title = runtimeIsShown() ? "Runtime" : current?.title || "New chat";
  at("title").textContent = title;
  document.title = `${current?.running && !runtimeIsShown() ? "… " : ""}${title} · nanobot`;
}

function showComposer() {
  const running = current?.running ?? false;
  at("stop").hidden = !running;
  const nothing = !at("composer-text").value.trim() && attachments.empty;
  at("send").hidden = running && nothing;
  at("send").disabled = nothing || attachments.busy;
}

function fit() {
  const field = at("composer-text");
  if (!CSS.supports("field-sizing", "content")) {
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  }
  showComposer();
}

function refreshList() {
  clearTimeout(refreshing);
  refreshing = setTimeout(() => connection.send({ type: "list_chats" }), 60);
}

function runtimeIsShown() { return location.pathname === "/runtime"; }

function showView() {
  const shown = runtimeIsShown();
  at("chat-view").hidden = shown;
  at("runtime-view").hidden = !shown;
  if (shown) at("runtime-link").setAttribute("aria-current", "page");
  else at("runtime-link").removeAttribute("aria-current");
  if (shown) {
    runtime ??= new RuntimeView(at("runtime-view"));
    connection.send({ type: "watch_runtime" });
  } else connection.send({ type: "unwatch_runtime" });
  showTitle();
}

function toggleRuntime() {
  history.pushState(null, "", runtimeIsShown() ? `/#${current.id}` : "/runtime");
  route();
}

function route() {
  const id = location.hash.slice(1);
  if (!runtimeIsShown() && CHAT_ID.test(id)) {
    if (current?.id !== id || at("chat-view").hidden) open(id);
  } else if (!runtimeIsShown()) newChat();
  else {
    current ??= chatOf(name("chat").replace("chat-", ""));
    showView();
    showList();
    closeSidebar();
  }
}

function announce(turn) {
  const text = turn.blocks.findLast((block) => block.kind === "text")?.text ?? "";
  say(turn.stopReason === "completed" ? `Answer complete. ${text.slice(0, 300)}` : `Answer ended: ${turn.stopReason}`, false);
}

function say(text, visible = true) {
  at("announcer").textContent = text;
  if (visible) {
    const note = at("composer-note");
    note.textContent = text;
    note.classList.add("said-now"); // shown on a phone, too
    clearTimeout(noted);
    noted = setTimeout(() => { note.textContent = ""; note.classList.remove("said-now"); }, 8000);
  }
}

function openSidebar() {
  at("sidebar").classList.add("open");
  at("veil").hidden = false;
  at("open-sidebar").setAttribute("aria-expanded", "true");
  at("close-sidebar").focus();
}

function closeSidebar() {
  if (!at("sidebar").classList.contains("open")) return;
  at("sidebar").classList.remove("open");
  at("veil").hidden = true;
  at("open-sidebar").setAttribute("aria-expanded", "false");
}

function step(by) {
  const ids = [...at("chat-list").querySelectorAll(".chat-row")].map((row) => row.dataset.chat);
  const index = ids.indexOf(current?.id);
  const next = ids[index < 0 ? 0 : Math.max(0, Math.min(ids.length - 1, index + by))];
  if (next) open(next);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  runtime?.redraw();
}

at("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
at("composer-text").addEventListener("input", fit);
at("composer-text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
at("attach").addEventListener("click", () => at("files").click());
at("files").addEventListener("change", () => {
  attachments.add([...at("files").files]);
  at("files").value = ""; // so that the same file can be chosen again
  at("composer-text").focus();
});
document.addEventListener("paste", (event) => {
  if (event.target === at("search") || runtimeIsShown() || !event.clipboardData?.files.length) return;
  event.preventDefault();
  attachments.add([...event.clipboardData.files]);
});
let dragged = 0; // elements under the pointer: entering a child leaves its parent
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files") && !runtimeIsShown();
const showDrop = (by) => {
  dragged = Math.max(0, dragged + by);
  at("drop-limits").textContent = attachments.limitsInWords;
  at("drop-here").hidden = dragged === 0;
};
document.addEventListener("dragenter", (event) => { if (carriesFiles(event)) { event.preventDefault(); showDrop(1); } });
document.addEventListener("dragleave", (event) => { if (carriesFiles(event)) showDrop(-1); });
document.addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  showDrop(-dragged);
  attachments.add([...event.dataTransfer.files]);
  at("composer-text").focus();
});
at("stop").addEventListener("click", stop);
at("new-chat").addEventListener("click", newChat);
at("open-sidebar").addEventListener("click", openSidebar);
at("close-sidebar").addEventListener("click", closeSidebar);
at("veil").addEventListener("click", closeSidebar);
at("help").addEventListener("click", () => at("shortcuts").showModal());
at("runtime-link").addEventListener("click", (event) => { event.preventDefault(); if (!runtimeIsShown()) toggleRuntime(); });
at("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  store(localStorage, "nanobot-theme", dark ? "light" : "dark");
  setTheme(dark ? "light" : "dark");
});
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  at("token-dialog").close();
  connection.useToken(at("token-text").value.trim());
});
let typing = 0;
at("search").addEventListener("input", () => {
  clearTimeout(typing);
  const query = at("search").value.trim();
  if (!query) { found = null; showList(); return; }
  typing = setTimeout(() => connection.send({ type: "search_chats", query }), 150);
});
at("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") at("chat-list").querySelector(".chat-row a")?.click();
});
document.addEventListener("keydown", (event) => {
  const inField = event.target.closest?.("input, textarea");
  if (document.querySelector("dialog[open]")) return;
  if (event.altKey && event.code === "KeyN") { event.preventDefault(); newChat(); }
  else if (event.altKey && event.code === "KeyA" && !runtimeIsShown()) { event.preventDefault(); at("files").click(); }
  else if (event.altKey && event.code === "KeyR") { event.preventDefault(); toggleRuntime(); }
  else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) { event.preventDefault(); step(event.key === "ArrowUp" ? -1 : 1); }
  else if (event.key === "Escape") {
    if (at("sidebar").classList.contains("open")) { closeSidebar(); at("open-sidebar").focus(); }
    else if (event.target === at("search")) { at("search").value = ""; found = null; showList(); at("composer-text").focus(); }
    else stop();
  } else if (!inField && event.key === "/") { event.preventDefault(); at("search").focus(); }
  else if (!inField && event.key === "?") at("shortcuts").showModal();
});
addEventListener("popstate", route);
document.addEventListener("visibilitychange", () => { if (!document.hidden && current?.unread) { current.unread = false; showList(); } });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => runtime?.redraw());

route();
connection.connect();
