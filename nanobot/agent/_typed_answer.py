"""How one run gets an answer of a type out of its model."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from nanobot.errors import ToolError
from nanobot.messages import Message, ToolSpec, UserMessage
from nanobot.providers import OutputFormat, strict_schema
from nanobot.tools import Cross, RunContext, ToolTraits

from ._output_type import OutputType, WrongAnswer

__all__ = ["FINAL_ANSWER", "FinalAnswer", "OutputWay", "TypedAnswer"]

FINAL_ANSWER: Final = "final_answer"
"""The name of the tool by whose call a run ends, where the service enforces no schema."""

OutputWay: TypeAlias = Literal["enforced", "tool", "asked"]
"""How a model is brought to answer in a type.

- `enforced`: the service holds what it says to the schema.
- `tool`: its last act is to call a tool whose arguments are the answer.
- `asked`: it is told the schema, with each request, and nothing else can be done.
"""

_DESCRIPTION: Final = (
    "Give your final answer. Call this once, when you are done with everything else:"
    " only what you pass here is read."
)
_CALL_IT: Final = "Give your final answer by calling {tool} with arguments that fit its schema."
_WRITE_IT: Final = "Answer with JSON that fits this schema, and with nothing around it:\n{schema}"
_WRONG: Final = (
    "[from nanobot, not from the user] Your answer cannot be used: {problem}. {what_to_do}"
)


class TypedAnswer:
    """What a run wants its answer to be, and how often the model may still get it wrong. One per run.

    Args:
      kind: The type.
      retries: Wrong answers that are sent back to the model.
      offers_tools: Whether the model can be offered tools.
      enforces_schemas: Whether the service holds answers to a schema.

    Attributes:
      way: How the model is brought to answer.
      format: For the requests, where the service enforces it.
      given: The JSON text of the answer that was given by a call of the tool and fits; None before.
      output: The value of the answer, once `accept` has read it.
    """

    def __init__(
        self, kind: OutputType, *, retries: int, offers_tools: bool, enforces_schemas: bool
    ) -> None:
        self._kind = kind
        self._left = retries
        self._tries = 0
        self.way: OutputWay = "tool" if offers_tools else "asked"
        self.format: OutputFormat | None = None
        if enforces_schemas and (schema := strict_schema(kind.schema)) is not None:
            self.way = "enforced"
            self.format = OutputFormat(kind.format_name, schema)
        self.given: str | None = None
        self.output: Any = None

    @property
    def tool(self) -> FinalAnswer | None:
        """The tool to offer, where one is needed."""
        return FinalAnswer(self._kind, self) if self.way == "tool" else None

    def reminder(self, *, closing: bool) -> Message | None:
        """What the model is told with a request, and no history keeps."""
        if self.way == "asked" or (closing and self.way == "tool"):
            return UserMessage(self._write_it())
        return None

    def accept(self, text: str) -> str | None:
        """Read an answer; return what is wrong with it, or None if it is now the output."""
        try:
            self.output = self._kind.read(text)
        except WrongAnswer as wrong:
            self._tries += 1
            return str(wrong)
        return None

    def try_again(self, problem: str) -> Message | None:
        """What the model is told of a wrong answer; None if it had its tries."""
        if self._left <= 0:
            return None
        self._left -= 1
        return UserMessage(
            _WRONG.format(
                problem=problem,
                what_to_do=_CALL_IT.format(tool=FINAL_ANSWER)
                if self.way == "tool"
                else self._write_it(),
            ),
            metadata={"injected_event": "wrong_output"},
        )

    def refused(self) -> bool:
        """A call of the tool did not fit; return whether the model may try again."""
        self._tries += 1
        self._left -= 1
        return self._left >= 0

    def failure(self, problem: str) -> str:
        """What a run says that ends without the answer."""
        times = "once" if self._tries <= 1 else f"{self._tries} times"
        return (
            f"The model was asked for {self._kind.name} {times}, and its answer is none: {problem}"
        )

    def _write_it(self) -> str:
        schema = msgspec.json.encode(self._kind.schema).decode()
        return _WRITE_IT.format(schema=schema)


class FinalAnswer:
    """The tool whose arguments are the answer. A call ends the run, once its other calls are done."""

    def __init__(self, kind: OutputType, answer: TypedAnswer) -> None:
        self._kind = kind
        self._answer = answer
        self.spec: Final = ToolSpec(FINAL_ANSWER, _DESCRIPTION, kind.schema)
        self.traits: Final = ToolTraits(gives_answer=True)
        self.origin: Final = "nanobot, for output_type"

    def convert(self, arguments: dict[str, Any]) -> str:
        """Check that the arguments are of the type; they stay as the model wrote them. See `Tool.convert`."""
        try:
            self._kind.from_builtins(arguments)
        except WrongAnswer as wrong:
            raise ToolError(
                f"The answer does not fit: {wrong}. Call the tool again with it corrected."
            ) from wrong
        return msgspec.json.encode(arguments).decode()

    async def invoke(self, arguments: str, context: RunContext, cross: Cross) -> str:
        """Give the answer; of several in one round the last one counts. See `Tool.invoke`."""
        self._answer.given = arguments
        return "Accepted."
