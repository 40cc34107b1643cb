"""A chat page with a stop button, in FastAPI: answers come as server-sent events.

pip install fastapi uvicorn
uvicorn examples.fastapi_chat:app
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel

from nanobot import (
    STREAM_EVENT_RUN_COMPLETED,
    STREAM_EVENT_RUN_FAILED,
    STREAM_EVENT_TEXT_DELTA,
    STREAM_EVENT_TOOL_STARTED,
    Nanobot,
    RunStream,
)

PAGE = """<!doctype html>
<title>Chat</title>
<pre id=said></pre>
<form id=form><input id=question autofocus> <button>Send</button> <button id=stop type=button>Stop</button></form>
<script>
const chat = crypto.randomUUID(), said = document.getElementById("said");
form.onsubmit = async event => {
  event.preventDefault();
  const message = question.value;
  question.value = "";
  said.append("> " + message + "\\n");
  const answer = await fetch("/chats/" + chat, {
    method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify({message}),
  });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let read; !(read = await reader.read()).done; ) {
    const events = (rest + read.value).split("\\n\\n");
    rest = events.pop();
    for (const event of events) {
      const told = JSON.parse(event.slice("data: ".length));
      said.append(told.text ?? (told.tool ? "[" + told.tool + "]\\n" : ""));
      if (told.end) said.append((told.end === "completed" ? "" : " [" + told.end + "]") + "\\n");
    }
  }
};
stop.onclick = () => fetch("/chats/" + chat + "/stop", {method: "POST"});
</script>"""


class Question(BaseModel):
    message: str


class Chats:
    """The bot, and what it is answering right now in each chat."""

    bot: Nanobot
    running: dict[str, RunStream]


chats = Chats()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with Nanobot.from_config() as bot:
        chats.bot, chats.running = bot, {}
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.post("/chats/{chat}")
async def ask(chat: str, question: Question) -> StreamingResponse:
    if chat in chats.running:
        raise HTTPException(409, "this chat is being answered; stop it first")
    run = chats.running[chat] = await chats.bot.run_streamed(
        question.message, session_key=f"chat:{chat}", channel="web", chat_id=chat
    )

    async def told() -> AsyncIterator[str]:  # noqa: ASYNC900 - the server closes it
        def event(**facts: str | None) -> str:
            return f"data: {json.dumps(facts)}\n\n"

        try:
            async for each in run.stream_events():
                if each.type == STREAM_EVENT_TEXT_DELTA:
                    yield event(text=each.delta)
                elif each.type == STREAM_EVENT_TOOL_STARTED:
                    yield event(tool=each.name)
                elif each.type == STREAM_EVENT_RUN_COMPLETED:
                    yield event(end="completed")
                elif each.type == STREAM_EVENT_RUN_FAILED:
                    yield event(end=each.metadata["reason"])
        finally:  # also when the browser has gone: then nobody wants the rest
            del chats.running[chat]
            await run.aclose()

    return StreamingResponse(told(), media_type="text/event-stream")


@app.post("/chats/{chat}/stop", status_code=204)
async def stop(chat: str) -> None:
    run = chats.running.get(chat)
    if run is not None:
        await run.cancel()  # returns when nothing of the run is alive
