"""A turn that is to end with an answer of a type: by a tool, by words, or held to a schema by the service."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypedDict  # pydantic takes no other, before Python 3.12

from nanobot.agent import (
    AgentHook,
    AgentHookContext,
    HookToolCall,
    Inbox,
    Limits,
    RunResult,
    TurnParts,
    TypedAnswer,
    output_type_of,
)
from nanobot.agent._output_type import WrongAnswer
from nanobot.agent._turn import Turn
from nanobot.errors import NoOutput, UsageError
from nanobot.messages import Message, UserMessage
from nanobot.testing import Answer, ScriptedProvider, assert_legal_history
from nanobot.tools import Approval, RunContext

from .stage import SYSTEM, TOOLS, USER, WORKSPACE, Notebook, Reader, check_events, text_of


class Person(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    age: Annotated[int, msgspec.Meta(ge=0, le=150)]


@dataclass
class Town:
    name: str
    people: list[Person]


class Weather(TypedDict):
    degrees: float
    sky: Literal["clear", "cloudy"]


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Order(pydantic.BaseModel):
    number: int
    lines: list[str] = []


@dataclass
class Basket:
    orders: list[Order]


class Cart(TypedDict):
    order: Order


class Box(msgspec.Struct):
    output: dict[str, int] = {}


ADA = Person("Ada", 36)
RIGHT = {"name": "Ada", "age": 36}
WRONG = {"name": "Ada", "age": 200}


def give(arguments: Any, *others: tuple[str, Any], text: str = "") -> Answer:
    return Answer(text, tool_calls=[*others, ("final_answer", arguments)])


class Played:
    """One turn, played, and what it left."""

    def __init__(self, answers: Any, kind: Any = Person, **options: Any) -> None:
        self.provider = ScriptedProvider(answers)
        self.journal, self.reader = Notebook(), Reader()
        retries = options.pop("retries", 2)
        way = options.pop("way", "tool")
        answer = TypedAnswer(
            output_type_of(kind),
            retries=retries,
            offers_tools=way != "asked",
            enforces_schemas=way == "enforced",
        )
        tools = TOOLS if answer.tool is None else TOOLS.with_tools([answer.tool])
        parts: dict[str, Any] = {
            "provider": self.provider,
            "messages": [SYSTEM, USER],
            "toolset": tools,
            "tool_context": RunContext(confined=WORKSPACE),
            "limits": options.pop("limits", Limits()),
            "journal": self.journal,
            "emit": self.reader,
            "answer": answer,
            **options,
        }
        self._parts = parts

    async def __call__(self) -> RunResult[Any]:
        from nanobot.agent import ModelSettings

        result = await Turn(TurnParts(settings=ModelSettings(model="m"), **self._parts)).run()
        check_events(self.reader.events, finalized=True)
        assert_legal_history(self.journal.messages)
        return result


async def test_the_answer_is_given_by_a_tool_and_said_as_json() -> None:
    played = Played([give(RIGHT, text="Let me see.")])
    result = await played()
    assert result.output == ADA
    assert result.content == '{"name":"Ada","age":36}'
    assert (result.stop_reason, result.error, result.tools_used) == ("completed", None, [])
    assert len(played.provider.requests) == 1
    assert [message.content for message in played.journal.messages] == [
        USER.content,
        "Let me see.",
        "Accepted.",
        result.content,
    ]
    assert text_of(played.reader.events) == "Let me see." + result.content


async def test_other_tools_are_run_before_and_beside_it() -> None:
    played = Played(
        [Answer(tool_calls=[("echo", {"text": "a"})]), give(RIGHT, ("change", {"text": "b"}))]
    )
    result = await played()
    assert result.output == ADA
    assert result.tools_used == ["echo", "change"]


async def test_a_wrong_answer_goes_back_with_what_is_wrong_and_the_next_one_counts() -> None:
    played = Played([give(WRONG), give(RIGHT)])
    assert (await played()).output == ADA
    told = played.provider.requests[1].messages[-1]
    assert "`int` <= 150" in str(told.content)
    assert "$.age" in str(told.content)
    assert "The answer does not fit" in str(told.content)
    assert "Call the tool again" in str(told.content)


@pytest.mark.parametrize(("retries", "times"), [(0, "once"), (1, "2 times"), (2, "3 times")])
async def test_after_so_many_wrong_answers_the_run_has_failed_and_says_what_was_said(
    retries: int, times: str
) -> None:
    played = Played([give(WRONG)] * 9, retries=retries)
    result = await played()
    assert len(played.provider.requests) == retries + 1
    assert result.stop_reason == "error"
    assert result.error is not None
    assert result.error.startswith(f"The model was asked for Person {times}, and its answer")
    assert "150" in result.error
    assert msgspec.json.decode(result.metadata["raw_output"]) == WRONG
    assert result.metadata["exception_type"] == "NoOutput"
    with pytest.raises(NoOutput) as caught:
        _ = result.output
    assert msgspec.json.decode(caught.value.raw) == WRONG


async def test_words_that_are_the_answer_are_taken_for_it() -> None:
    said = 'Here it is:\n```json\n{"name": "Ada", "age": 36}\n```'
    result = await Played([said])()
    assert result.output == ADA
    assert result.content == said


async def test_words_that_are_not_are_answered_by_name_of_the_tool() -> None:
    played = Played(["I think it is Ada.", give(RIGHT)])
    assert (await played()).output == ADA
    correction = played.provider.requests[1].messages[-1]
    assert "final_answer" in str(correction.content)
    assert str(correction.content).startswith("[from nanobot, not from the user]")
    assert correction in played.journal.messages
    assert correction.metadata == {"injected_event": "wrong_output"}


@pytest.mark.parametrize("retries", [0, 2])
async def test_words_that_never_fit_fail_the_run_with_the_last_of_them(retries: int) -> None:
    played = Played(["No idea."] * 9, retries=retries, way="asked")
    result = await played()
    assert len(played.provider.requests) == retries + 1
    assert (result.stop_reason, result.content) == ("error", "No idea.")
    assert result.metadata["raw_output"] == "No idea."
    assert played.reader.events[-1].type == "run.failed"


async def test_a_model_without_tools_is_told_the_schema_with_each_request() -> None:
    played = Played(["{", '{"name": "Ada", "age": 36}'], way="asked")
    assert (await played()).output == ADA
    for request in played.provider.requests:
        assert '"maximum":150' in str(request.messages[-1].content)
    assert all('"maximum"' not in str(one.content) for one in played.journal.messages[:1])
    correction = played.journal.messages[2]  # there is no tool that it could name
    assert "final_answer" not in str(correction.content)
    assert '"maximum":150' in str(correction.content)


async def test_a_service_that_enforces_schemas_gets_a_strict_one_and_no_tool() -> None:
    played = Played(['{"name": "Ada", "age": 36}'], way="enforced")
    assert (await played()).output == ADA
    (request,) = played.provider.requests
    assert request.output is not None
    assert request.output.name == "Person"
    assert request.output.schema["required"] == ["name", "age"]
    assert request.output.schema["additionalProperties"] is False
    assert "final_answer" not in [tool.name for tool in request.tools]


async def test_what_no_strict_schema_can_say_goes_by_the_tool() -> None:
    played = Played([give({"output": {"a": 1}})], dict[str, int], way="enforced")
    assert (await played()).output == {"a": 1}
    assert played.provider.requests[0].output is None


async def test_an_empty_answer_is_a_wrong_one() -> None:
    played = Played([""] * 20)
    result = await played()
    assert result.stop_reason == "error"
    assert "empty" in str(result.error)


async def test_when_tool_calls_are_used_up_the_answer_is_asked_for_in_words() -> None:
    call = Answer(tool_calls=[("echo", {"text": "a"})])
    played = Played([call, '{"name": "Ada", "age": 36}'], limits=Limits(max_iterations=1))
    result = await played()
    assert (result.output, result.stop_reason) == (ADA, "max_iterations")
    assert '"maximum":150' in str(played.provider.requests[-1].messages[-1].content)


async def test_a_service_that_enforces_the_schema_is_not_told_of_it_in_words() -> None:
    call = Answer(tool_calls=[("echo", {"text": "a"})])
    answers, limits = [call, '{"name": "Ada", "age": 36}'], Limits(max_iterations=1)
    played = Played(answers, way="enforced", limits=limits)
    assert (await played()).output == ADA
    for request in played.provider.requests:
        assert all('"maximum"' not in str(message.content) for message in request.messages)


async def test_approval_of_every_tool_does_not_ask_about_the_answer() -> None:
    asked: list[str] = []

    def never(request: Any) -> bool:
        asked.append(request.name)
        return False

    played = Played([give(RIGHT)], approval=Approval(never, {"*": "ask"}))
    assert (await played()).output == ADA
    assert asked == []


async def test_what_a_hook_makes_of_the_text_is_what_the_output_is_made_of() -> None:
    class Anonymous(AgentHook):
        def finalize_content(self, context: AgentHookContext, content: str) -> str:
            return content.replace("Ada", "N. N.")

    for answers, way in (([give(RIGHT)], "tool"), (['{"name": "Ada", "age": 36}'], "asked")):
        result = await Played(answers, way=way, hooks=[Anonymous()])()
        assert result.output == Person("N. N.", 36)
        assert "Ada" not in result.content


async def test_a_hook_that_leaves_no_answer_fails_the_run() -> None:
    class Silent(AgentHook):
        def finalize_content(self, context: AgentHookContext, content: str) -> str:
            return "(withheld)"

    result = await Played([give(RIGHT)], hooks=[Silent()])()
    assert result.stop_reason == "error"
    assert "hooks changed it" in str(result.error)
    assert result.metadata["raw_output"] == "(withheld)"
    with pytest.raises(NoOutput):
        _ = result.output


async def test_a_hook_may_deny_the_answer_and_the_model_gives_another() -> None:
    class Doubtful(AgentHook):
        async def before_execute_tool(self, context: AgentHookContext, call: HookToolCall) -> None:
            if call.name == "final_answer" and context.iteration == 0:
                call.deny("look again")

    assert (await Played([give(RIGHT), give(RIGHT)], hooks=[Doubtful()])()).output == ADA


class _Awaited(Inbox):
    """Something that others still find out."""

    def __init__(self) -> None:
        self.open = True

    @property
    def ready(self) -> bool:
        return self.open

    @property
    def expecting(self) -> bool:
        return self.open

    async def take(self) -> list[Message]:
        self.open = False
        return [UserMessage("[from nanobot] It is Bob.")]

    async def wait(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_an_answer_before_everybody_has_reported_is_asked_for_again() -> None:
    class Late(_Awaited):
        def __init__(self) -> None:
            super().__init__()
            self.open = False

    late = Late()

    def answers(request: Any) -> Answer:
        if len(request.messages) == 2:
            late.open = True
            return give(RIGHT)
        return give({"name": "Bob", "age": 1})

    result = await Played(answers, inbox=late)()
    assert result.output == Person("Bob", 1)


async def test_a_run_that_fails_otherwise_has_no_output() -> None:
    from nanobot.errors import ServiceUnavailable

    result = await Played([ServiceUnavailable("down", provider="scripted")])()
    with pytest.raises(NoOutput, match="down"):
        _ = result.output


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Person, '{"name":"Ada","age":"36"}', ADA),
        (Town, '{"name":"X","people":[{"name":"Ada","age":36}]}', Town("X", [ADA])),
        (Weather, '{"degrees":3,"sky":"clear"}', {"degrees": 3.0, "sky": "clear"}),
        (Order, '{"number":1}', Order(number=1)),
        (list[Order], '[{"number":1}]', [Order(number=1)]),
        (Basket, '{"orders":[{"number":2}]}', Basket([Order(number=2)])),
        (list[int], '{"output":[1,2]}', [1, 2]),
        (list[int], "[1,2]", [1, 2]),
        (dict[str, int], '{"output":1}', {"output": 1}),
        (dict[str, int], '{"output":{"a":1}}', {"a": 1}),
        (Literal["a", "b"], '{"output":"a"}', "a"),
        (Literal["a", "b"], '"b"', "b"),
        (Color, '{"output":"red"}', Color.RED),
        (int | None, '{"output":null}', None),
        (str, '{"output":"x"}', "x"),
        (bool, "true", True),
        (dict[str, int], '{"a":1}', {"a": 1}),
        (dict[int, int], '{"1":"2"}', {1: 2}),
        (Box, '{"output":{"a":1}}', Box({"a": 1})),  # no wrapper, but a member of that name
        (Cart, '{"order":{"number":1}}', {"order": Order(number=1)}),
        (Annotated[int, []], "1", 1),  # a type that cannot be hashed
        (Person, "{'name': 'Ada', 'age': 36,}", ADA),  # what models write for JSON
        (list[int], "\u00a0[1,2]", [1, 2]),
    ],
)
def test_types_are_read(kind: Any, text: str, value: Any) -> None:
    read = output_type_of(kind).read(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        (Person, '{"name":"Ada"}', "age"),
        (Person, '{"name":"Ada","age":1,"extra":1}', "extra"),
        (Person, "[]", "object"),
        (Person, "", "empty"),
        (Person, " \n", "empty"),
        (Person, "nothing", "not JSON"),
        (Person, "[" * 100_000, "not JSON"),
        (Person, '{"name":"\ud800","age":1}', "not JSON"),
        (Person, "```json\n{}\n```\n```json\n{}\n```", "not JSON"),
        (list[int], "So:\n```\n[1, oops]\n```", r"^the answer is not JSON \(.*\(byte 0\)\)$"),
        (Order, '{"number":"x","lines":["a",1]}', r"^`\$\.number`: .*; `\$\.lines\[1\]`: [^`]*$"),
        (Literal["a", "b"], '{"output":"c"}', "Invalid enum value"),
    ],
)
def test_what_does_not_fit_is_named(kind: Any, text: str, problem: str) -> None:
    with pytest.raises(WrongAnswer, match=problem):
        output_type_of(kind).read(text)


def test_of_many_mistakes_the_first_twenty_are_named() -> None:
    with pytest.raises(WrongAnswer) as wrong:
        output_type_of(list[Order]).read("[" + ",".join(["{}"] * 25) + "]")
    assert str(wrong.value).count("[") == 20


def test_what_is_no_object_with_known_members_is_the_one_member_of_an_object() -> None:
    kind = output_type_of(list[int])
    assert kind.wrapped
    assert kind.schema == {
        "type": "object",
        "properties": {"output": {"type": "array", "items": {"type": "integer"}}},
        "required": ["output"],
        "additionalProperties": False,
    }
    assert not output_type_of(Person).wrapped


@pytest.mark.parametrize(
    ("kind", "name", "format_name"),
    [
        (Person, "Person", "Person"),
        (Literal["a"], "Literal['a']", "Literal_a"),
        (type("X", (msgspec.Struct,), {"__annotations__": {"x": int}}), "X", "X"),
        (type("P" * 70, (msgspec.Struct,), {"__annotations__": {"x": int}}), "P" * 70, "P" * 64),
        (type("é", (msgspec.Struct,), {"__annotations__": {"x": int}}), "é", "output"),
    ],
    ids=repr,
)
def test_a_type_has_a_name_for_people_and_one_that_services_take(
    kind: Any, name: str, format_name: str
) -> None:
    found = output_type_of(kind)
    assert (found.name, found.format_name) == (name, format_name)


def test_pydantic_is_not_loaded_for_a_type_that_needs_it_not() -> None:
    program = (
        "import sys; from nanobot.agent import output_type_of;"
        " assert output_type_of(int).read('1') == 1; assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


class Tree(msgspec.Struct):
    branches: list[Tree]


@dataclass
class Chain:
    next: Chain | None


class Unspeakable(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    lock: trio.Lock


@pytest.mark.parametrize(
    "kind",
    [
        object(),
        lambda: 1,
        Tree,
        Chain,
        Unspeakable,
        type("Plain", (), {}),
        complex,
    ],
)
def test_a_type_that_json_cannot_carry_is_the_callers_mistake(kind: Any) -> None:
    with pytest.raises(UsageError, match="output_type"):
        output_type_of(kind)


def test_a_name_that_only_a_function_knows_is_the_callers_mistake() -> None:
    class Inner(msgspec.Struct):
        x: int

    @dataclass
    class Outer:
        inner: Inner

    with pytest.raises(UsageError, match=r"^output_type is annotated .*Outer.* names 'Inner'"):
        output_type_of(Outer)


@given(st.text())
def test_whatever_a_model_says_is_an_answer_or_a_wrong_one(text: str) -> None:
    for kind in (Person, list[int], dict[str, int], Order):
        with contextlib.suppress(WrongAnswer):
            output_type_of(kind).read(text)


async def test_a_turn_that_is_cancelled_while_it_is_corrected_leaves_a_legal_history() -> None:
    def answers(request: Any) -> Any:
        return "no" if len(request.messages) < 4 else Answer("more", before_first_delta_s=60)

    played = Played(answers)
    with trio.move_on_after(0.01):
        await played()
    assert_legal_history(played.journal.messages)
