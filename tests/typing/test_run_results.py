"""What a type checker knows of a run's result. mypy reads this file; only the last test runs anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, assert_type

import msgspec
import trio
from pydantic import BaseModel

from nanobot import Nanobot, RunResult, RunStream
from nanobot.sdk import SyncEventStream
from nanobot.testing import ScriptedProvider

Mood: TypeAlias = Literal["good", "bad"]


class Person(msgspec.Struct):
    name: str


class Pet(Person):
    owner: str


@dataclass
class Place:
    city: str


class Weather(TypedDict):
    degrees: float


class Order(BaseModel):
    number: int


async def results_have_the_type_that_was_asked_for(bot: Nanobot) -> None:
    assert_type(await bot.run("x"), RunResult[None])
    assert_type((await bot.run("x")).output, None)
    assert_type(await bot.run("x", output_type=Person), RunResult[Person])
    assert_type((await bot.run("x", output_type=Person)).output.name, str)
    assert_type((await bot.run("x", output_type=Place)).output, Place)
    assert_type((await bot.run("x", output_type=Weather)).output, Weather)
    assert_type((await bot.run("x", output_type=Order)).output, Order)
    assert_type((await bot.run("x", output_type=list[Person])).output, list[Person])
    assert_type((await bot.run("x", output_type=dict[str, int])).output, dict[str, int])
    assert_type((await bot.run("x", output_type=bool, session_key="a")).output, bool)


async def what_is_no_class_is_named_where_it_goes(bot: Nanobot) -> None:
    result: RunResult[Mood] = await bot.run("x", output_type=Mood)
    assert_type(result.output, Literal["good", "bad"])


async def streams_have_it_too(bot: Nanobot) -> None:
    assert_type(await bot.run_streamed("x"), RunStream[None])
    stream = await bot.run_streamed("x", output_type=Person)
    assert_type(stream, RunStream[Person])
    assert_type((await stream.wait()).output, Person)
    assert_type(bot.stream_sync("x", output_type=Person), SyncEventStream[Person])
    assert_type(bot.stream_sync("x", output_type=Person).result().output, Person)
    async for event in bot.stream("x", output_type=Person):
        assert_type(event.result, RunResult[Any] | None)


def programs_without_a_loop_as_well(bot: Nanobot) -> None:
    assert_type(bot.run_sync("x"), RunResult[None])
    assert_type(bot.run_sync("x", output_type=Place).output.city, str)


def a_name_without_brackets_is_a_plain_result(result: RunResult) -> None:
    assert_type(result.content, str)
    assert_type(result.output, None)


def a_result_of_the_narrower_type_does_for_the_wider(result: RunResult[Pet]) -> RunResult[Person]:
    return result


async def wrong_uses_are_seen_by_the_type_checker(bot: Nanobot) -> None:
    """Never run: each ignore is an error that mypy must find, or it complains that the ignore is unused."""
    person: Person = (await bot.run("x", output_type=Place)).output  # type: ignore[assignment]
    await bot.run("x", output_typ=Place)  # type: ignore[call-overload]
    await bot.run("x", output_retries="two")  # type: ignore[call-overload]
    del person
    (await bot.run("x", output_type=Place)).output = Place("x")  # type: ignore[misc]


def test_the_classes_can_be_written_with_brackets_at_run_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with Nanobot.from_config(
            workspace=tmp_path, provider=ScriptedProvider(['{"name": "Ada"}'])
        ) as bot:
            result: RunResult[Person] = await bot.run("Who?", output_type=Person, ephemeral=True)
            assert result.output == Person("Ada")

    trio.run(story)
    assert str(RunResult[Person]).endswith("Person]")
