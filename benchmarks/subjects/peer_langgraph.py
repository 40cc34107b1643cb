"""langgraph: a chat graph of one node, with its SQLite checkpointer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _rounds import asyncio_rounds, load
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph


async def main() -> None:
    wanted = load()
    model = ChatOpenAI(model="any", base_url=f"{wanted.base_url}/v1", api_key="sk-x")

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    with TemporaryDirectory() as folder:
        path = str(Path(folder, "checkpoints.db"))
        async with AsyncSqliteSaver.from_conn_string(path) as saver:
            agent = graph.compile(checkpointer=saver)

            async def ask(key: str, text: str) -> None:
                state = await agent.ainvoke(
                    {"messages": [HumanMessage(text)]},
                    {"configurable": {"thread_id": key}},
                    durability="exit",
                )
                assert "hello" in state["messages"][-1].content, state

            await asyncio_rounds(ask, wanted)


asyncio.run(main())
