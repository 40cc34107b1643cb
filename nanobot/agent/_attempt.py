"""One line of a run's ledger."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

from nanobot.messages import Usage

__all__ = ["Attempt", "Outcome"]

Outcome: TypeAlias = Literal["answered", "failed", "cancelled"]


class Attempt(Struct, gc=False):
    """One request as it went to one service. A request that is sent again, or to another model, is another attempt.

    Attributes:
      provider: Who was asked, as in the configuration.
      model: For which model, by its name there.
      iteration: For which iteration of the turn; None before it, for a compaction.
      outcome: What became of it; "cancelled" also if the run ended for a reason of its own.
      accepted: Whether the service accepted it. What was not accepted is not charged for.
      usage: What it took; None if it was not accepted.
      estimated: Whether the service did not say so itself.
      cost_usd: What that costs by list price, in US dollars; None if the price is not known.
      error: The class of what went wrong, or None.
    """

    provider: str
    model: str
    iteration: int | None
    outcome: Outcome = "cancelled"
    accepted: bool = False
    usage: Usage | None = None
    estimated: bool = False
    cost_usd: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As `RunResult.metadata["attempts"]` shows it."""
        return {
            "provider": self.provider,
            "model": self.model,
            "iteration": self.iteration,
            "outcome": self.outcome,
            "usage": None if self.usage is None else self.usage.to_dict(),
            "estimated": self.estimated,
            "cost": self.cost_usd,
            "error": self.error,
        }
