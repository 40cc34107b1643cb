"""From a function's signature to one Struct that makes both its JSON schema and its validation."""

from __future__ import annotations

import inspect
import types
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from nanobot.errors import UsageError

from ._docstring import read_docstring
from ._run_context import RunContext

__all__ = ["Parameters", "inlined", "parameters_from_function", "schema_of"]

_NAMELESS: Mapping[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


class Parameters(Struct, frozen=True, eq=False):
    """What a function takes, and from whom.

    Attributes:
      description: What the docstring says about the function.
      model: The Struct that the model's arguments are converted to; one field per parameter that the model fills in.
      types: The annotation of each of those.
      schema: JSON schema of `model`: everything inline, no titles.
      context_names: Parameters that are given the `RunContext`.
      positional_names: Parameters that can only be passed by position, in order.
    """

    description: str
    model: type[Struct]
    types: dict[str, Any]
    schema: dict[str, Any]
    context_names: tuple[str, ...]
    positional_names: tuple[str, ...]


def parameters_from_function(
    function: Callable[..., Any], *, skip_self: bool, caller: types.FrameType
) -> Parameters:
    """Read a function's signature, annotations and docstring.

    Args:
      function: A function or bound method.
      skip_self: Whether the first parameter will be bound later.
      caller: The frame that defines the function; what is local to it may be named by annotations.

    Raises:
      UsageError: A parameter that no JSON object can fill in; the message names it and what would do.
    """
    parameters = list(inspect.signature(function).parameters.values())[1 if skip_self else 0 :]
    hints = _annotations(function, [parameter.name for parameter in parameters], caller)
    documented = read_docstring(function.__doc__)
    types_by_name: dict[str, Any] = {}
    fields: list[tuple[str, Any, Any]] = []
    properties: dict[str, Any] = {}
    context_names: list[str] = []
    for parameter in parameters:
        name, default = parameter.name, msgspec.NODEFAULT
        annotation = _annotation(parameter, hints, function.__qualname__)
        if _is_context(annotation):
            context_names.append(name)
            continue
        where = f"{function.__qualname__}(): parameter {name!r}"
        schema = schema_of(annotation, where)
        text = documented.parameters.get(name)
        if text and not _describes_itself(annotation):
            schema["description"] = text
        if parameter.default is not parameter.empty:
            schema |= _default_in_schema(parameter.default, annotation, where)
            # By factory, so that the function sees the very object its signature names, as in any other call.
            default = msgspec.field(default_factory=_always(parameter.default))
        types_by_name[name] = annotation
        fields.append((name, annotation, default))
        properties[name] = schema
    model = msgspec.defstruct(
        function.__name__, fields, kw_only=True, forbid_unknown_fields=True, frozen=True
    )
    return Parameters(
        description=documented.description,
        model=model,
        types=types_by_name,
        schema={
            "type": "object",
            "properties": properties,
            "required": [name for name, _, default in fields if default is msgspec.NODEFAULT],
            "additionalProperties": False,
        },
        context_names=tuple(context_names),
        positional_names=tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY),
    )


def _annotation(parameter: inspect.Parameter, hints: dict[str, Any], function_name: str) -> Any:
    if stars := _NAMELESS.get(parameter.kind):
        raise UsageError(
            f"{function_name}() takes {stars}{parameter.name}, which has no schema. Give each parameter a name and a"
            " type."
        )
    if parameter.name not in hints:
        raise UsageError(
            f"{function_name}(): parameter {parameter.name!r} has no annotation. Write {parameter.name}: str, or"
            " whatever it is; the model's schema is made from it."
        )
    return hints[parameter.name]


def _annotations(
    function: Callable[..., Any], names: list[str], caller: types.FrameType
) -> dict[str, Any]:
    """Evaluate the annotations of parameters; the return type may name what only a type checker imports."""
    written = inspect.unwrap(function).__annotations__

    def carrier() -> None:
        """Carries annotations to `get_type_hints`."""

    carrier.__annotations__ = {name: written[name] for name in names if name in written}
    module = getattr(inspect.unwrap(function), "__globals__", {})
    local = ChainMap(*_local_names(caller, module)) if "<locals>" in function.__qualname__ else None
    try:
        return get_type_hints(carrier, globalns=module, localns=local, include_extras=True)
    except NameError as error:
        raise UsageError(
            f"{function.__qualname__}(): an annotation names {error.name!r}, which is not known where the tool is"
            " defined. Import it there, outside of `if TYPE_CHECKING`."
        ) from error
    except (TypeError, SyntaxError) as error:
        raise UsageError(
            f"{function.__qualname__}(): an annotation cannot be evaluated: {error}"
        ) from error


def _local_names(
    frame: types.FrameType | None, module: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The local names around a definition: of its function, of the class in it, of the function around that."""
    while frame is not None and frame.f_globals is module:
        yield frame.f_locals
        frame = frame.f_back


def _is_context(annotation: Any) -> bool:
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return any(_is_context(argument) for argument in get_args(annotation))
    return annotation is RunContext


def _describes_itself(annotation: Any) -> bool:
    return any(
        isinstance(extra, msgspec.Meta) and extra.description is not None
        for extra in getattr(annotation, "__metadata__", ())
    )


def schema_of(annotation: Any, where: str) -> dict[str, Any]:
    """The JSON schema of a type that msgspec knows: everything inline, no titles.

    Raises:
      UsageError: JSON cannot carry it, or it contains itself, or names what is not known; `where` says whose type it is.
    """
    try:
        _refuse_foreign(msgspec.inspect.type_info(annotation), set())
        (schema,), definitions = msgspec.json.schema_components(
            (annotation,), ref_template="{name}"
        )
        msgspec.json.Decoder(annotation)  # what cannot be validated must not have a schema either
    except NameError as error:
        raise UsageError(
            f"{where} is annotated {_spelled(annotation)}, in which an annotation names {error.name!r}. Define that in the"
            " module of the class, outside of functions and of `if TYPE_CHECKING`."
        ) from error
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{where} is annotated {_spelled(annotation)}, which JSON cannot carry ({reason}). Use str, int, float,"
            " bool, list, dict, Literal, Enum, datetime, a TypedDict, a dataclass or a msgspec Struct."
        ) from error
    return inlined(schema, definitions, where)


def _refuse_foreign(kind: Any, seen: set[int]) -> None:
    """Refuse classes that msgspec does not know, also where `Meta(extra_json_schema=...)` gives them a schema."""
    if id(kind) in seen:
        return
    seen.add(id(kind))
    if isinstance(kind, msgspec.inspect.CustomType | msgspec.inspect.RawType):
        raise TypeError(f"{_spelled(getattr(kind, 'cls', msgspec.Raw))} is not one of them")
    if isinstance(kind, msgspec.inspect.Type | msgspec.inspect.Field):
        for attribute in kind.__struct_fields__:
            value = getattr(kind, attribute)
            for part in value if isinstance(value, tuple) else (value,):
                _refuse_foreign(part, seen)


def inlined(schema: dict[str, Any], definitions: dict[str, Any], where: str) -> dict[str, Any]:
    """A schema with every reference (a name of `definitions`) replaced by what it refers to, and without titles.

    Raises:
      UsageError: A definition refers to itself.
    """
    return _inline(schema, definitions, (), where)


def _inline(
    schema: dict[str, Any], definitions: dict[str, Any], open_names: tuple[str, ...], where: str
) -> dict[str, Any]:
    """Replace references by what they refer to, and drop what models have no use for (titles, discriminators)."""
    inlined: dict[str, Any] = {}
    for key, value in schema.items():
        match key, value:
            case "title" | "discriminator", _:
                continue
            case "$ref", name:
                if name in open_names:
                    raise UsageError(
                        f"{where} contains itself ({name} inside {name}), and its schema has no names to refer to."
                        " Use a type of bounded depth, or dict."
                    )
                inlined = {
                    **_inline(definitions[name], definitions, (*open_names, name), where),
                    **inlined,
                }
            case "properties", dict():
                inlined[key] = {
                    name: _inline(part, definitions, open_names, where)
                    for name, part in value.items()
                }
            case "items" | "additionalProperties" | "propertyNames", dict():
                inlined[key] = _inline(value, definitions, open_names, where)
            case "allOf" | "anyOf" | "oneOf" | "prefixItems", list():
                inlined[key] = [_inline(part, definitions, open_names, where) for part in value]
            case _:
                inlined[key] = value
    return inlined


def _default_in_schema(default: Any, annotation: Any, where: str) -> dict[str, Any]:
    """Show a default that JSON can show, and check it against the annotation while at it."""
    try:
        plain = msgspec.to_builtins(default, str_keys=True)
        msgspec.json.encode(plain)
    except (
        TypeError,
        ValueError,
        RecursionError,
    ):  # a sentinel, say: meant for the function, not for the model
        return {}
    try:
        msgspec.convert(plain, annotation, str_keys=True)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{where} has the default {default!r}, which its annotation {_spelled(annotation)} does not allow:"
            f" {error}."
        ) from error
    return {"default": plain}


def _always(value: Any) -> Callable[[], Any]:
    return lambda: value


def _spelled(annotation: Any) -> str:
    return (
        annotation.__qualname__
        if isinstance(annotation, type)
        else str(annotation).replace("typing.", "")
    )
