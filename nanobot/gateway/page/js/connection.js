// One WebSocket that comes back by itself: it says what is known of each chat, and misses nothing.

const HEARTBEAT_MS = 20_000; // proxies hang up on silence
const SILENCE_MS = 45_000; // two heartbeats and a slow network: then the line is dead
const FIRST_RETRY_MS = 400;
const LAST_RETRY_MS = 8_000;
const UNAUTHORIZED = 401;
const TOO_LONG = 1009; // the code with which a server closes that was sent more than it takes

export class Connection {
  #socket = null;
  #attempt = 0;
  #heardAt = 0;
  #retry = 0;
  #left = 0; // bytes that had not been sent at the last beat

  // `handlers`: onOpen(), onFrame(frame), onState("connecting" | "open" | "waiting", secondsUntilRetry), onTooLong(), askToken(problem)
  constructor(handlers) {
    this.handlers = handlers;
    this.clientId = stored(sessionStorage, "nanobot-client") ?? name("page");
    store(sessionStorage, "nanobot-client", this.clientId);
    setInterval(() => this.#beat(), HEARTBEAT_MS / 4);
    addEventListener("online", () => this.#again(0));
    document.addEventListener("visibilitychange", () => { if (!document.hidden && !this.open) this.#again(0); });
  }

  get open() { return this.#socket?.readyState === WebSocket.OPEN; }

  send(frame) {
    if (!this.open) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  async connect() {
    if (this.#socket) return;
    this.handlers.onState("connecting");
    let url;
    try {
      url = await this.#address();
    } catch (problem) {
      if (problem instanceof TokenNeeded) return this.handlers.askToken(problem.message);
      return this.#wait();
    }
    const socket = this.#socket = new WebSocket(url);
    socket.onopen = () => {
      this.#attempt = 0;
      this.#heardAt = Date.now();
      this.handlers.onState("open");
      this.handlers.onOpen();
    };
    socket.onmessage = (message) => {
      this.#heardAt = Date.now();
      this.handlers.onFrame(JSON.parse(message.data));
    };
    socket.onclose = (event) => {
      if (event.code === TOO_LONG) this.handlers.onTooLong(); // or it would be sent again and again
      if (this.#socket === socket) { this.#socket = null; this.#wait(); }
    };
  }

  useToken(token) {
    store(sessionStorage, "nanobot-token", token);
    return this.connect();
  }

  async #address() {
    const about = await (await fetch("/connect")).json();
    const url = new URL(about.websocket);
    url.searchParams.set("client_id", this.clientId);
    if (about.token_required) url.searchParams.set("token", await this.#token());
    return url;
  }

  async #token() {
    const known = stored(sessionStorage, "nanobot-token");
    if (!known) throw new TokenNeeded("");
    const answer = await fetch("/token", { method: "POST", headers: { authorization: `Bearer ${known}` } });
    if (answer.status === UNAUTHORIZED) throw new TokenNeeded("That token is not right.");
    if (!answer.ok) throw new Error(`no token: ${answer.status}`);
    return (await answer.json()).token;
  }

  #beat() {
    if (!this.open) return;
    const left = this.#socket.bufferedAmount;
    if (left !== this.#left) this.#heardAt = Date.now(); // files are on their way, before our ping
    this.#left = left;
    const silent = Date.now() - this.#heardAt;
    if (silent > SILENCE_MS) return this.#socket.close();
    if (silent > HEARTBEAT_MS) this.send({ type: "ping" });
  }

  #wait() {
    const most = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#attempt++);
    const pause = most * (0.6 + 0.4 * Math.random()); // not all tabs at once
    this.handlers.onState("waiting", pause / 1000);
    this.#again(pause);
  }

  #again(pause) {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.connect(), pause);
  }
}

class TokenNeeded extends Error {}

export function name(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `${prefix}-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

// Storage may be switched off; the page works without.
export function stored(storage, key) { try { return storage.getItem(key); } catch { return null; } }
export function store(storage, key, value) { try { storage.setItem(key, value); } catch { /* then it is not kept */ } }
