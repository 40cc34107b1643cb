// What is known of one chat: turns made of blocks, built from frames. No document here.

export class Chat {
  constructor(id) {
    this.id = id;
    this.title = "";
    this.updatedAt = "";
    this.epoch = "";
    this.seq = 0;
    this.turns = [];
    this.attached = false; // the server knows that we want its frames
    this.unread = false;
    this.listed = false; // the server has it in its list
    this.truncated = false;
  }

  get running() { return this.turns.some((turn) => turn.state !== "ended"); }

  // A message of ours. It is unsent until the server says that it has it.
  say(turnId, text, files = []) {
    const turn = this.#turn(turnId, text);
    turn.unsent = true;
    turn.files = files;
    return turn;
  }

  // The server has it. What was to be sent is not needed any more, only what is shown of it.
  accept(turnId) {
    const turn = this.turns.find((one) => one.id === turnId);
    if (!turn?.unsent) return false;
    sent(turn);
    return true;
  }

  // The server will not have it; returns the turn, which is gone from here.
  refuse(turnId) {
    const index = this.turns.findIndex((one) => one.id === turnId && one.unsent);
    return index < 0 ? null : this.turns.splice(index, 1)[0];
  }

  get unsent() { return this.turns.filter((turn) => turn.unsent); }

  attach(frame) {
    this.attached = true;
    this.epoch = frame.epoch;
    if (frame.resumed) return;
    this.seq = frame.seq;
    if (!frame.messages) return;
    const unsent = this.unsent;
    this.truncated = frame.truncated ?? false;
    this.turns = turnsFromHistory(frame.messages);
    const last = this.turns.at(-1);
    if (frame.approval) park(last ?? this.#turn("parked", ""), frame.approval);
    for (const turn of frame.turns ?? []) this.#turn(turn.turn_id, turn.text, turn.media);
    for (const turn of unsent) {
      // The server may have had it, and been restarted before it could say so.
      const known = (last && isSame(last, turn)) || this.turns.some((one) => one.id === turn.id);
      if (!known) this.turns.push(turn);
    }
  }

  // Returns the turn that changed, or null if the frame was known already.
  take(frame) {
    if (frame.seq <= this.seq) return null;
    this.seq = frame.seq;
    const turn = this.#turn(frame.turn_id, frame.text, frame.media);
    take(turn, frame);
    if (frame.event === "turn_resumed") this.#decided(frame.request_id, frame.decision);
    return turn;
  }

  // A parked turn goes on as another one: nothing is asked any more where it waited.
  #decided(approvalId, decision) {
    for (const turn of this.turns) {
      const block = turn.blocks.find((one) => one.kind === "approval" && one.parked && (!approvalId || one.id === approvalId));
      if (!block) continue;
      block.decision = decision ?? "decided";
      turn.version++;
    }
  }

  #turn(id, text, media) {
    let turn = this.turns.find((one) => one.id === id);
    if (!turn) {
      turn = newTurn(id, text ?? "", media);
      this.turns.push(turn);
    }
    return turn;
  }
}

function newTurn(id, text, media = []) {
  return { id, text, files: media.map((name) => ({ name })), blocks: [], state: "queued", stopReason: "", latencyMs: null, usage: {}, unsent: false, version: 0 };
}

function isSame(stored, turn) {
  return stored.text === turn.text && stored.files.map((file) => file.name).join() === turn.files.map((file) => plain(file.name)).join();
}

// A file's name as the server keeps it.
function plain(name) { return name.split(/[/\\]/).at(-1).replace(/[^A-Za-z0-9._-]+/g, "_").replace(/^\.+/, "").slice(-80); }

function sent(turn) {
  turn.unsent = false;
  turn.version++;
  for (const file of turn.files) file.dataUrl = "";
}

function take(turn, frame) {
  turn.version++;
  switch (frame.event) {
    case "user_message":
      turn.text = frame.text ?? "";
      sent(turn);
      break;
    case "turn_start":
      turn.state = "running";
      break;
    case "delta":
      stream(turn, "text", frame.stream_id).text += frame.text;
      break;
    case "stream_end":
      close(turn, "text", frame.stream_id);
      break;
    case "reasoning_delta":
      stream(turn, "reasoning", frame.stream_id).text += frame.text;
      break;
    case "reasoning_end":
      close(turn, "reasoning", frame.stream_id);
      break;
    case "message": {
      const last = turn.blocks.findLast((block) => block.kind === "text");
      if (last) last.text = frame.text ?? "";
      else turn.blocks.push({ kind: "text", id: "whole", text: frame.text ?? "", done: true });
      break;
    }
    case "tool": {
      let block = turn.blocks.find((one) => one.kind === "tool" && one.id === frame.call_id);
      if (!block) {
        block = { kind: "tool", id: frame.call_id, startedAt: Date.now() };
        turn.blocks.push(block);
      }
      Object.assign(block, {
        phase: frame.phase ?? "started", name: frame.name, arguments: frame.arguments ?? {},
        result: frame.result, error: frame.error, outcome: frame.outcome, elapsedMs: frame.elapsed_ms,
      });
      break;
    }
    case "approval_request":
      turn.blocks.push({
        kind: "approval", id: frame.request_id, name: frame.name, arguments: frame.arguments ?? {},
        description: frame.description ?? "", decision: null,
      });
      break;
    case "approval_end": {
      const block = turn.blocks.find((one) => one.kind === "approval" && one.id === frame.request_id);
      if (block) block.decision = frame.decision ?? "withdrawn";
      break;
    }
    case "error":
      turn.blocks.push({ kind: "error", id: `error-${frame.seq}`, text: frame.detail ?? "" });
      break;
    case "turn_end":
      turn.state = "ended";
      turn.stopReason = frame.stop_reason ?? "";
      turn.latencyMs = frame.latency_ms ?? 0;
      turn.usage = frame.usage ?? {};
      for (const block of turn.blocks) if (block.done === false) block.done = true;
      if (frame.approval) park(turn, frame.approval);
      break;
    default: // newer servers may say more
  }
}

// The turn has ended, and somebody still has to decide: by the approval's own name, whenever that is.
function park(turn, approval) {
  let block = turn.blocks.findLast((one) => one.kind === "approval" && one.decision === "parked");
  if (!block) {
    block = { kind: "approval", name: approval.name, arguments: approval.arguments ?? {}, description: approval.description ?? "" };
    turn.blocks.push(block);
  }
  Object.assign(block, { id: approval.id, parked: true, decision: null });
  turn.version++;
}

function stream(turn, kind, id) {
  let block = turn.blocks.find((one) => one.kind === kind && one.id === id);
  if (!block) {
    block = { kind, id, text: "", done: false, startedAt: Date.now() };
    turn.blocks.push(block);
  }
  return block;
}

function close(turn, kind, id) {
  const block = turn.blocks.find((one) => one.kind === kind && one.id === id);
  if (!block) return;
  block.done = true;
  block.endedAt = Date.now();
}

// Stored messages, in OpenAI's shape.
export function turnsFromHistory(messages) {
  const turns = [];
  let turn = null;
  messages.forEach((message, index) => {
    if (message.role === "user" || !turn) {
      turn = newTurn(`history-${index}`, message.role === "user" ? textOf(message.content) : "", message.media);
      turn.state = "ended";
      turns.push(turn);
      if (message.role === "user") return;
    }
    if (message.role === "assistant") {
      if (message.reasoning_content) turn.blocks.push({ kind: "reasoning", id: `r${index}`, text: message.reasoning_content, done: true });
      const text = textOf(message.content);
      if (text) turn.blocks.push({ kind: "text", id: `t${index}`, text, done: true });
      for (const call of message.tool_calls ?? []) {
        turn.blocks.push({ kind: "tool", id: call.id, phase: "ended-without", name: call.function?.name ?? "", arguments: parsed(call.function?.arguments) });
      }
    } else if (message.role === "tool") {
      const block = turn.blocks.findLast((one) => one.kind === "tool" && one.id === message.tool_call_id);
      if (block) Object.assign(block, { phase: (message.outcome ?? "ok") === "ok" ? "completed" : "failed", result: textOf(message.content), outcome: message.outcome });
    }
  });
  return turns;
}

function textOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => (part.type === "text" ? part.text : `[${part.type === "image_url" ? "image" : part.type}]`)).join("\n");
}

function parsed(text) {
  try {
    const value = JSON.parse(text ?? "{}");
    return value !== null && typeof value === "object" ? value : { value };
  } catch { return { arguments: text }; }
}
