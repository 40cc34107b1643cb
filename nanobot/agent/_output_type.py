"""A type that a run's answer is to have: what the model is told of it, and how its answer is read."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import Struct

from nanobot.errors import UsageError
from nanobot.tools._repair import repair_object
from nanobot.tools._schema import inlined, schema_of

__all__ = ["OutputType", "WrongAnswer", "output_type_of"]

_WHERE: Final = "output_type"
_WRAPPER: Final = "output"
"""The one member of the object around an answer that is no object itself: services and tools take only objects."""

_FENCED: Final = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\r?\n(.*?)\r?\n?[ \t]*```", re.DOTALL)
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_-]+")
_KNOWN_TYPES: Final = 256
"""Types whose schemas are kept; programs have a handful, and those that make types at run time must not pile them up."""


class WrongAnswer(Exception):
    """What the model said is not of the type; the text says why, for the model."""


class OutputType(Struct, frozen=True, eq=False):
    """A type that answers are to have. Pure.

    Attributes:
      name: What people call it.
      schema: The JSON schema of the object that the model is to write.
      wrapped: Whether the answer is the only member of that object, because it is no object with known members itself.
      convert: From decoded JSON to a value of the type; raises `WrongAnswer`.
    """

    name: str
    schema: dict[str, Any]
    wrapped: bool
    convert: Callable[[Any], Any]

    @property
    def format_name(self) -> str:
        """The name, as services take it."""
        return _NOT_IN_NAMES.sub("_", self.name).strip("_")[:64] or _WRAPPER

    def read(self, text: str) -> Any:
        """Read an answer: JSON, or prose with one fenced block of JSON in it.

        Raises:
          WrongAnswer: It is neither, or not of the type.
        """
        if not text.strip():
            raise WrongAnswer("the answer is empty")
        return self.from_builtins(_decoded(text))

    def from_builtins(self, value: Any) -> Any:
        """The same for JSON that was decoded.

        Raises:
          WrongAnswer: It is not of the type.
        """
        if self.wrapped and isinstance(value, dict) and value.keys() == {_WRAPPER}:
            try:
                return self.convert(value[_WRAPPER])
            except WrongAnswer:
                try:
                    return self.convert(value)  # a dict of the model's own with this one key
                except WrongAnswer:
                    pass
                raise
        return self.convert(value)


def output_type_of(kind: Any) -> OutputType:
    """What is to be known of a type.

    Args:
      kind: A msgspec Struct, a dataclass, a TypedDict, a pydantic model, or anything made of these and of JSON's own types:
        `list[...]`, `dict[str, ...]`, `Literal[...]`, unions, `Annotated[...]`.

    Raises:
      UsageError: JSON cannot carry it, or it contains itself.
    """
    try:
        return _remembered(kind)
    except TypeError:  # not hashable, as Annotated[int, []] is not
        return _made(kind)


@lru_cache(maxsize=_KNOWN_TYPES)
def _remembered(kind: Any) -> OutputType:
    return _made(kind)


def _made(kind: Any) -> OutputType:
    schema, convert = _of_pydantic(kind) or (schema_of(kind, _WHERE), _converter(kind))
    name = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
    wrapped = schema.get("type") != "object" or "properties" not in schema
    if wrapped:
        schema = {
            "type": "object",
            "properties": {_WRAPPER: schema},
            "required": [_WRAPPER],
            "additionalProperties": False,
        }
    return OutputType(name, schema, wrapped, convert)


def _converter(kind: Any) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        try:
            return msgspec.convert(value, kind, str_keys=True)
        except (msgspec.ValidationError, RecursionError) as strictly:
            try:  # "5" for 5, and the like: what can only be meant in one way, as with arguments of tools
                return msgspec.convert(value, kind, strict=False, str_keys=True)
            except (msgspec.ValidationError, RecursionError):
                raise WrongAnswer(str(strictly)) from None

    return convert


def _of_pydantic(kind: Any) -> tuple[dict[str, Any], Callable[[Any], Any]] | None:
    """Schema and conversion by pydantic, if one of its models is in the type; it is loaded then."""
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is None or not _mentions(kind, pydantic.BaseModel):
        return None
    try:
        adapter = pydantic.TypeAdapter(kind)
        schema = adapter.json_schema(ref_template="{model}")
    except pydantic.errors.PydanticUserError as error:
        raise UsageError(f"{_WHERE}: {error}") from error

    def convert(value: Any) -> Any:
        try:
            return adapter.validate_json(msgspec.json.encode(value))
        except pydantic.ValidationError as error:
            lines = [f"{_place(one['loc'])}: {one['msg']}" for one in error.errors()[:20]]
            raise WrongAnswer("; ".join(lines)) from None

    return inlined(schema, schema.pop("$defs", {}), _WHERE), convert


def _place(location: tuple[int | str, ...]) -> str:
    return "`$" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location) + "`"


def _mentions(kind: Any, wanted: type, seen: frozenset[int] = frozenset()) -> bool:
    """Whether a class, or one made of it, occurs in a type."""
    if id(kind) in seen:
        return False
    seen = seen | {id(kind)}
    if isinstance(kind, type) and issubclass(kind, wanted):
        return True
    parts = list(getattr(kind, "__args__", ()))
    # A TypedDict has `__total__`. `is_typeddict` knows only those of `typing`, and before Python 3.12 pydantic takes only those
    # of `typing_extensions`.
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__total__"):
        try:
            parts += get_type_hints(kind).values()
        except NameError:  # of a class in a function; what reads the type says what it lacks
            pass
    return any(_mentions(part, wanted, seen) for part in parts)


def _decoded(text: str) -> Any:
    candidates = [text.strip()]
    if len(fenced := _FENCED.findall(text)) == 1:
        candidates.append(fenced[0])
    problem = ""
    for candidate in candidates:
        try:
            return msgspec.json.decode(candidate)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
            problem = problem or str(error)
    for candidate in candidates:
        if (repaired := repair_object(candidate)) is not None:
            return repaired
    raise WrongAnswer(f"the answer is not JSON ({problem})")
