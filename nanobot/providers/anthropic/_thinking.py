"""How a request asks for reasoning: a decision on the model's name and a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from nanobot.errors import InvalidArgument
from nanobot.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ThinkingBlock,
    ToolMessage,
    UserMessage,
)

from .._known_models import ReasoningStyle, accepts_temperature, known_model, reasons_always
from .._match import model_words
from .._reasoning_items import is_ours

__all__ = ["returned_thinking", "sampling_fields"]

_KINDS: Final = frozenset({"thinking", "redacted_thinking"})

_USUAL_MAX_TOKENS: Final = 8192
"""Sent where nobody names a limit and none is known, for the service insists on one. Every current model has it."""

# The service takes no budget below 1,024.
_BUDGETS: Final = {"minimal": 1024, "low": 1024, "medium": 4096, "adaptive": 4096}
_LARGE_EFFORTS: Final = ("high", "xhigh", "max")
_LARGE_BUDGET: Final = 8192


def sampling_fields(
    model: str,
    messages: Sequence[Message],
    *,
    provider: str,
    max_tokens: int | None,
    temperature: float | None,
    effort: str | None,
) -> dict[str, Any]:
    """Return what a request says of limits, temperature and reasoning.

    - `max_tokens` is required by the service, and counts reasoning too. A budget for reasoning is added to it, as
      far as the model goes, so that the answer keeps its room.
    - How reasoning is asked for depends on the model (see `ReasoningStyle`): by a budget, or by a word. A model
      that is not in the catalog is taken for a new one if it is a Claude, else for one that knows budgets. Where
      reasoning cannot be switched off, "none" asks for the least of it.
    - With reasoning the service accepts no temperature but 1, which is its default; without, none above 1.

    Raises:
      InvalidArgument: A budget is needed and there is none for this word.
    """
    known = known_model(model)
    limit = None if known is None else known.max_output
    fields: dict[str, Any] = {"max_tokens": max_tokens or limit or _USUAL_MAX_TOKENS}
    style = (known and known.reasoning) or _usual_style(model)
    if effort is not None:
        if style == "adaptive":
            fields |= _adaptive("low" if effort == "none" and reasons_always(model) else effort)
        elif (
            style not in ("none", "always")
            and effort != "none"
            and not _continues_without_thinking(messages, provider)
        ):
            fields |= _budgeted(effort, fields["max_tokens"], limit)
    thinks = fields.get("thinking", {}).get("type", "disabled") != "disabled"
    if temperature is not None and accepts_temperature(model) and not thinks:
        fields["temperature"] = min(temperature, 1.0)
    return fields


def returned_thinking(message: AssistantMessage, provider: str) -> list[ThinkingBlock]:
    """Return the reasoning of an answer that the provider wants back.

    What was imported has to be signed: Anthropic refuses a history with anything else. What came from this very
    provider goes back as it came, for not all services sign.
    """
    return [
        block
        for block in message.thinking
        if is_ours(block, provider, _KINDS)
        and (block.signature or block.payload)  # of what came from here, the payload says so
    ]


def _usual_style(model: str) -> ReasoningStyle:
    return "adaptive" if "claude" in model_words(model) else "budget"


def _adaptive(effort: str) -> dict[str, Any]:
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    # Some models think without showing it unless they are asked to.
    fields: dict[str, Any] = {"thinking": {"type": "adaptive", "display": "summarized"}}
    if effort != "adaptive":
        fields["output_config"] = {"effort": "low" if effort == "minimal" else effort}
    return fields


def _budgeted(effort: str, max_tokens: int, limit: int | None) -> dict[str, Any]:
    if effort in _LARGE_EFFORTS:
        budget = max(_LARGE_BUDGET, max_tokens)
    elif effort in _BUDGETS:
        budget = _BUDGETS[effort]
    else:
        words = ", ".join(("none", *_BUDGETS, *_LARGE_EFFORTS))
        raise InvalidArgument(f"reasoning_effort {effort!r} is not one of {words}")
    total = max_tokens + budget
    if limit is not None and total > limit:
        total = limit
        budget = min(budget, total // 2)  # at least half is for the answer
    return {"max_tokens": total, "thinking": {"type": "enabled", "budget_tokens": budget}}


def _continues_without_thinking(messages: Sequence[Message], provider: str) -> bool:
    """Whether the request is in the middle of a turn that was begun without reasoning of this provider's.

    Given a budget, the service insists that the first call of a turn was reasoned about. It was not if the turn was
    begun with reasoning switched off, or by another provider.
    """
    first_call: AssistantMessage | None = None
    behind_results = False
    for message in messages:
        match message:
            # Behind results, what the user says is part of the same turn for the service.
            case UserMessage() if not behind_results:
                first_call = None
            case AssistantMessage() if message.tool_calls:
                first_call = first_call or message
        if not isinstance(message, SystemMessage):
            behind_results = isinstance(message, ToolMessage)
    return first_call is not None and not returned_thinking(first_call, provider)
