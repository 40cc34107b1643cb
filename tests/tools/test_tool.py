"""A typed function becomes a tool, or an error says at once why it cannot."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import AsyncIterator, Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import pytest
from msgspec import Meta, Struct

from nanobot.errors import UsageError
from nanobot.messages import ToolCall
from nanobot.tools import RunContext, Tool, Toolset, execute, tool

if TYPE_CHECKING:
    from decimal import Decimal


class Unit(enum.Enum):
    METRIC = "metric"
    IMPERIAL = "imperial"


class Place(Struct):
    """A point on a map."""

    title: str
    north: Annotated[float, Meta(ge=-90, le=90)]


class Stay(TypedDict):
    nights: int


@dataclasses.dataclass
class Tree:
    children: list[Tree]


@tool(name="get-weather", timeout_s=5, read_only=True, exclusive=True)
async def weather(
    city: Annotated[str, Meta(description="City and country.", min_length=1)],
    days: Annotated[int, Meta(ge=1, le=14)] = 1,
    unit: Unit = Unit.METRIC,
    title: Literal["short", "long"] | None = None,
) -> str:
    """Forecast the weather.

    Args:
      city: Ignored, for the annotation describes it.
      days: How many days.
    """
    return f"{city} {days} {unit.value} {title}"


def test_the_signature_becomes_a_schema_without_titles_or_references() -> None:
    assert weather.spec.name == "get-weather"
    assert weather.spec.description == "Forecast the weather."
    assert weather.spec.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "minLength": 1, "description": "City and country."},
            "days": {
                "type": "integer",
                "minimum": 1,
                "maximum": 14,
                "default": 1,
                "description": "How many days.",
            },
            "unit": {"enum": ["imperial", "metric"], "default": "metric"},
            "title": {"anyOf": [{"enum": ["long", "short"]}, {"type": "null"}], "default": None},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


def test_types_of_types_are_written_out_where_they_are_used() -> None:
    @tool
    def route(start: Place, stops: list[Place], stay: Stay, on: date | None = None) -> None:
        """Plan.

        Args:
          start: Where it begins.
        """

    place = {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "north": {"type": "number", "minimum": -90, "maximum": 90},
        },
        "required": ["title", "north"],
    }
    properties = route.spec.parameters["properties"]
    assert properties["start"] == {**place, "description": "Where it begins."}
    assert properties["stops"] == {
        "type": "array",
        "items": {**place, "description": "A point on a map."},
    }
    assert properties["stay"] == {
        "type": "object",
        "properties": {"nights": {"type": "integer"}},
        "required": ["nights"],
    }
    assert "$" not in str(route.spec.parameters)


async def test_a_function_gets_the_values_that_its_annotations_promise(context: RunContext) -> None:
    seen: list[Any] = []

    @tool
    async def plan(place: Place, on: date, unit: Unit, nights: Stay, tags: set[str]) -> None:
        seen.extend([place, on, unit, nights, tags])

    arguments = """{"place": {"title": "Lisbon", "north": 38.7}, "on": "2024-05-01", "unit": "metric",
                    "nights": {"nights": 3}, "tags": ["sea", "sea"]}"""
    result = await execute(ToolCall("1", "plan", arguments), Toolset([plan]), context)
    assert result.ok, result.error
    assert seen == [Place("Lisbon", 38.7), date(2024, 5, 1), Unit.METRIC, {"nights": 3}, {"sea"}]


async def test_the_context_is_filled_in_and_hidden_from_the_model(context: RunContext) -> None:
    @tool
    async def who(
        context: RunContext, again: RunContext | None = None, greeting: str = "hi"
    ) -> str:
        assert again is context
        return f"{greeting} {context.session_key} in call {context.tool_call_id}"

    assert list(who.spec.parameters["properties"]) == ["greeting"]
    result = await execute(ToolCall("call-7", "who", "{}"), Toolset([who]), context)
    assert result.message.content == "hi user:alice in call call-7"


def test_what_was_passed_as_deps_is_not_shown_by_the_context(
    context: RunContext, root: Path
) -> None:
    told = RunContext(confined=context.confined, deps={"key": "secret"})
    assert "secret" not in repr(told)
    assert told.workspace == root


async def test_parameters_by_position_only_are_passed_by_position(context: RunContext) -> None:
    @tool
    async def divide(a: float, b: float = 2.0, /, *, digits: int = 1) -> float:
        return round(a / b, digits)

    result = await execute(
        ToolCall("1", "divide", '{"a": 1, "digits": 2}'), Toolset([divide]), context
    )
    assert result.message.content == "0.5"


async def test_a_method_is_a_tool_of_its_instance(context: RunContext) -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @tool(read_only=True)
        async def price(self, item: str) -> str:
            """Tell a price."""
            return f"{item} at {self.name}"

        def stock(self, item: str) -> str:
            """Count."""
            return f"3 {item} at {self.name}"

    shop = Shop("Rita's")
    tools = Toolset([shop.price, tool(shop.stock)])
    assert [spec.description for spec in tools.specs] == ["Tell a price.", "Count."]
    price = await execute(ToolCall("1", "price", '{"item": "tea"}'), tools, context)
    stock = await execute(ToolCall("2", "stock", '{"item": "tea"}'), tools, context)
    assert (price.message.content, stock.message.content) == ("tea at Rita's", "3 tea at Rita's")
    assert await shop.price("milk") == "milk at Rita's"
    assert shop.price.traits.read_only


def test_a_method_without_its_instance_is_refused() -> None:
    class Shop:
        @tool
        def price(self) -> str:
            return "1"

    with pytest.raises(UsageError, match=r"Shop\.price is a method without its instance"):
        Toolset([Shop.price])


def test_static_and_class_methods_can_be_tools() -> None:
    class Shop:
        @staticmethod
        @tool
        def hours(day: str) -> str:
            return day

        @classmethod
        def address(cls, street: str) -> str:
            return f"{cls.__name__} {street}"

    address = tool(Shop.address)
    assert [t.spec.name for t in Toolset([Shop.hours, address])] == ["hours", "address"]
    assert Shop.hours("Monday") == "Monday"
    assert list(address.spec.parameters["properties"]) == ["street"]


async def test_the_decorated_function_is_still_that_function() -> None:
    assert await weather("Porto", days=2) == "Porto 2 metric None"
    assert weather.__name__ == "weather"
    assert weather.__doc__ is not None
    assert weather.__doc__.startswith("Forecast")
    assert weather.origin == f"{__name__}.weather"
    assert "get-weather" in repr(weather)


def test_traits_are_what_the_decorator_was_told() -> None:
    traits = weather.traits
    assert (traits.timeout_s, traits.read_only, traits.exclusive, traits.on_host) == (
        5,
        True,
        True,
        True,
    )

    @tool
    def plain() -> None: ...

    traits = plain.traits
    assert (traits.timeout_s, traits.read_only, traits.exclusive, traits.on_host) == (
        None,
        False,
        False,
        True,
    )


def test_annotations_may_name_what_is_local_to_the_definition() -> None:
    class Local(Struct):
        size: int

    class Shop:
        @tool
        def fit(self, item: Local) -> None: ...

    assert Shop().fit.spec.parameters["properties"]["item"]["properties"] == {
        "size": {"type": "integer"}
    }


def test_the_return_type_may_be_known_to_type_checkers_only() -> None:
    @tool
    def price() -> Decimal:
        raise NotImplementedError

    assert price.spec.parameters["properties"] == {}


def test_a_default_keeps_its_identity() -> None:
    default = ["a"]

    @tool
    def names(known: list[str] = default) -> None: ...

    assert names.spec.parameters["properties"]["known"]["default"] == ["a"]
    assert names.convert({})["known"] is default


def test_a_default_that_json_cannot_show_is_left_out_of_the_schema() -> None:
    unset: Any = object()

    @tool
    def search(query: str = unset) -> None: ...

    assert search.spec.parameters["properties"]["query"] == {"type": "string"}
    assert search.convert({}) == {"query": unset}


def nothing_annotated(city) -> None: ...  # type: ignore[no-untyped-def]  # the mistake under test
def any_number(*cities: str) -> None: ...
def any_names(**cities: str) -> None: ...
def foreign(where: Path) -> None: ...
def foreign_inside(where: list[Callable[[], int]]) -> None: ...
def foreign_with_schema(
    where: Annotated[Path, Meta(extra_json_schema={"type": "string"})],
) -> None: ...
def endless(tree: Tree) -> None: ...
def two_objects(where: Place | dict[str, int]) -> None: ...
def wrong_default(days: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013 - the mistake under test
def type_checkers_only(price: Decimal) -> None: ...
def no_type(price: 3) -> None: ...  # type: ignore[valid-type]  # the mistake under test
async def yields() -> AsyncIterator[str]:  # noqa: ASYNC900 - the mistake under test
    yield "piece"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (nothing_annotated, r"nothing_annotated\(\): parameter 'city' has no annotation"),
        (any_number, r"any_number\(\) takes \*cities"),
        (any_names, r"any_names\(\) takes \*\*cities"),
        (foreign, r"parameter 'where' is annotated Path, which JSON cannot carry"),
        (foreign_inside, r"parameter 'where' is annotated list\["),
        (foreign_with_schema, r"parameter 'where' is annotated .*which JSON cannot carry"),
        (endless, r"parameter 'tree' contains itself \(.*Tree"),
        (two_objects, r"parameter 'where' is annotated .*which JSON cannot carry"),
        (
            wrong_default,
            r"parameter 'days' has the default None, which its annotation int does not allow",
        ),
        (type_checkers_only, r"names 'Decimal', which is not known .*TYPE_CHECKING"),
        (no_type, r"parameter 'price'|cannot be evaluated"),
        (yields, r"yields\(\) yields; a tool returns one result"),
        (lambda: 1, r"'<lambda>' cannot be the name of a tool"),
        (len, r"only functions and bound methods"),
        (Place, r"only functions and bound methods"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_with_a_reason(function: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        tool(function)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ä", "x" * 65, "new\n"])
def test_a_name_that_no_vendor_accepts_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a tool"):
        tool(name=name)(lambda: None)


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan")])
def test_a_deadline_in_the_past_is_refused(timeout_s: float) -> None:
    with pytest.raises(UsageError, match="timeout_s"):
        tool(name="x", timeout_s=timeout_s)(lambda: None)


def test_a_function_tool_is_a_tool_to_the_type_checker_too() -> None:
    offered: list[Tool] = [weather]
    assert Toolset(offered).names == ("get-weather",)
