"""What a run may spend: decided before each call, on estimates of what the call may take at most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio
from msgspec import Struct
from msgspec.structs import replace

from nanobot.errors import InvalidArgument
from nanobot.providers import ModelRequest
from nanobot.providers._known_models import Price, price_of

from ._tally import Tally

__all__ = ["Allowance", "Budget", "BudgetSpent", "Purse"]

_LEAST_ANSWER_TOKENS: Final = 64
"""A shorter answer is not worth its prompt."""

_PER: Final = 1_000_000
"""Prices are per so many tokens."""


_ROUNDING: Final = 1e-6
"""Of a token: what floats lose must not cost a whole one."""


_NOTHING: Final = (0, 0.0)


class Budget(Struct, frozen=True, kw_only=True):
    """What may be spent, in tokens (prompts and answers together) or US dollars by list price; None is no limit."""

    tokens: int | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        if self.tokens is not None and self.tokens < 1:
            raise InvalidArgument(f"a budget of {self.tokens} tokens is none; it takes at least 1")
        if self.usd is not None and not 0 < self.usd < math.inf:
            raise InvalidArgument(f"a budget of {self.usd} US dollars is none")


class BudgetSpent(Exception):
    """The next call could pass a budget; the text says which, and what is left of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """A budget, and what was spent of it before this turn.

    Attributes:
      budget: The bounds.
      of: Whose they are, for messages: "run" or "session".
      spent_tokens: Tokens that are gone.
      spent_usd: US dollars that are gone.
    """

    budget: Budget
    of: str
    spent_tokens: int = 0
    spent_usd: float = 0.0


class Purse:
    """Lets a turn make a call only if its budgets cover the most that the call may take.

    That is the prompt, estimated, and an answer of `max_tokens`; where that is too much, the answer may be as long as what
    is left allows.

    A turn and its subagents draw on one purse. Each joins it with its tally; what one of them may be spending right now is
    set aside, so that together they cannot pass a budget either. Lives in the engine.

    Args:
      allowances: All of them count.
      asked: Provider and model of everybody who may answer; the dearest counts.
      ratio: How many tokens the model counts for an estimated one.
    """

    def __init__(
        self,
        allowances: Sequence[Allowance],
        asked: Sequence[tuple[str, str]],
        *,
        ratio: float = 1.0,
    ) -> None:
        self._allowances = tuple(allowances)
        self._asked = tuple(asked)
        self._ratio = ratio
        self._drawn: dict[Tally, tuple[int, float]] = {}  # tokens and dollars set aside
        self._moved = trio.Event()  # replaced whenever something is put back

    def join(self, tally: Tally) -> None:
        """Count from now on what this tally counts."""
        self._drawn[tally] = _NOTHING

    def leave(self, tally: Tally) -> None:
        """Count it no more: its sums are part of another tally's now."""
        del self._drawn[tally]
        self._move()

    async def draw(self, request: ModelRequest, tally: Tally) -> ModelRequest:
        """Set aside what a request may take at most, and return it with an answer as long as the budgets allow.

        Waits for calls of others that are under way if those may leave too little; mostly they take less than was set aside.
        Whoever gets the request puts back, whatever becomes of it.

        Raises:
          BudgetSpent: The budgets do not allow it.
        """
        while True:
            alone = not any(drawn != _NOTHING for drawn in self._drawn.values())
            try:
                covered = self.within(request, tally)
            except BudgetSpent:
                if alone:
                    raise
            else:
                if alone or covered is request:
                    self._drawn[tally] = self._most_of(covered, tally)
                    return covered
            await self._moved.wait()

    def put_back(self, tally: Tally) -> None:
        """The call is over, and what it took is in the tally."""
        self._drawn[tally] = _NOTHING
        self._move()

    def _move(self) -> None:
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    def _most_of(self, request: ModelRequest, tally: Tally) -> tuple[int, float]:
        prompt = self._prompt(request, tally)
        answer = request.max_tokens or 0  # without a limit there is no budget that it could pass
        prices = [
            price_of(provider, model, prompt_tokens=prompt) for provider, model in self._asked
        ]
        usd = max(
            (_cost(price, prompt, answer) for price in prices if price is not None), default=0.0
        )
        return prompt + answer, usd

    def _prompt(self, request: ModelRequest, tally: Tally) -> int:
        # Inside a turn prompts only grow, so what the service counted for the last one is the least of the next.
        estimated = math.ceil(tally.prompt_tokens(request) * self._ratio)
        return max(estimated, tally.last_prompt_tokens)

    def _spent_tokens(self, tally: Tally) -> int:
        others = [(each, drawn) for each, drawn in self._drawn.items() if each is not tally]
        return tally.usage.total_tokens + sum(
            each.usage.total_tokens + tokens for each, (tokens, _) in others
        )

    def _spent_usd(self, tally: Tally) -> float | None:
        total = 0.0
        for each in {tally: None, **self._drawn}:
            if each.cost_usd is None:
                return None
            total += each.cost_usd + (0.0 if each is tally else self._drawn[each][1])
        return total

    def within(self, request: ModelRequest, tally: Tally) -> ModelRequest:
        """The request, with an answer as long as the budgets allow.

        Raises:
          BudgetSpent: They do not allow it.
        """
        prompt = self._prompt(request, tally)
        room = math.inf
        for allowance in self._allowances:
            room = min(
                room,
                self._room_in_tokens(allowance, prompt, tally),
                self._room_in_usd(allowance, prompt, tally),
            )
        wanted = math.inf if request.max_tokens is None else request.max_tokens
        if room >= wanted:
            return request
        if room < min(_LEAST_ANSWER_TOKENS, wanted):
            raise BudgetSpent(self._explained(prompt, tally))
        return replace(request, max_tokens=int(room))

    def _room_in_tokens(self, allowance: Allowance, prompt: int, tally: Tally) -> float:
        if allowance.budget.tokens is None:
            return math.inf
        left = allowance.budget.tokens - allowance.spent_tokens - self._spent_tokens(tally)
        return left - prompt

    def _room_in_usd(self, allowance: Allowance, prompt: int, tally: Tally) -> float:
        if allowance.budget.usd is None:
            return math.inf
        prices = [
            price_of(provider, model, prompt_tokens=prompt) for provider, model in self._asked
        ]
        spent = self._spent_usd(tally)
        if spent is None or None in prices:
            names = ", ".join(model for _, model in self._asked)
            raise BudgetSpent(
                f"The {allowance.of} has a budget in US dollars, but not every price of {names} is known; "
                "give it a budget in tokens."
            )
        left = allowance.budget.usd - allowance.spent_usd - spent
        return min(_affordable(price, prompt, left) for price in prices if price is not None)

    def _explained(self, prompt: int, tally: Tally) -> str:
        parts: list[str] = []
        for allowance in self._allowances:
            budget = allowance.budget
            if budget.tokens is not None:
                spent = allowance.spent_tokens + self._spent_tokens(tally)
                parts.append(f"{spent} of the {budget.tokens} tokens of the {allowance.of}")
            if budget.usd is not None:
                dollars = allowance.spent_usd + (self._spent_usd(tally) or 0.0)
                parts.append(f"${dollars:.4f} of the ${budget.usd:g} of the {allowance.of}")
        return (
            f"The budget does not cover another call with a prompt of about {prompt} tokens: "
            f"{' and '.join(parts)} are spent."
        )


def _cost(price: Price, prompt: int, answer: int) -> float:
    """What a call costs at most: no prompt is cached, for the worst case."""
    return (prompt * _prompt_price(price) + answer * price.output) / _PER


def _prompt_price(price: Price) -> float:
    return max(price.input, price.cache_write or 0.0)


def _affordable(price: Price, prompt: int, usd: float) -> float:
    """How many tokens an answer may have for this money, after its prompt; none is cached, for the worst case."""
    left = usd - prompt * _prompt_price(price) / _PER
    if left < 0:
        return -1.0
    return left * _PER / price.output + _ROUNDING if price.output else math.inf
