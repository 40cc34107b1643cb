"""What the server is besides HTTP: a bot, who may ask it, and how many at once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from secrets import token_hex

import trio
from msgspec import Struct

from nanobot.config import ApiSettings
from nanobot.sdk import ApprovalsClient, Nanobot, RunStream

from ._admission import Admission
from ._api_error import ApiError
from ._client import BodyBudget, Client
from ._following import Following, follow, noted, shutting_down
from ._metrics import Metrics, exposition
from ._question import Question
from ._runtime_metrics import runtime_text
from ._uploads import Uploads

__all__ = ["ANY_MODEL", "ServerSettings", "Service", "settings_from_config"]

ANY_MODEL = "nanobot"
"""A name for whatever model the bot uses."""


class ServerSettings(Struct, frozen=True, kw_only=True):
    """How a server is to behave.

    Attributes:
      api_key: Key that clients must send; "" for none.
      timeout_s: Seconds that one request may take, from its end to the end of its answer.
      max_requests: Most requests that are worked on or wait; past it, 429.
      max_per_session: Most of one session: one is worked on, the others wait.
      reject_busy: Refuse a request to a session that is busy (409) instead of letting it wait.
      drain_s: Seconds that requests have to end after a SIGTERM.
      decide_approvals: Whether clients may see and decide what parked turns of the API's sessions wait for.
    """

    api_key: str = ""
    timeout_s: float = 120.0
    max_requests: int = 1000
    max_per_session: int = 16
    reject_busy: bool = False
    drain_s: float = 30.0
    decide_approvals: bool = False


def settings_from_config(api: ApiSettings) -> ServerSettings:
    """What the section `api` of a configuration says."""
    return ServerSettings(
        api_key=api.api_key,
        timeout_s=api.timeout,
        max_requests=api.max_requests,
        max_per_session=api.max_requests_per_session,
        reject_busy=api.reject_busy,
        drain_s=api.drain_timeout,
        decide_approvals=api.decide_approvals,
    )


class Service:
    """Asks the bot on behalf of clients. Lives in the Trio run that it was made in.

    Attributes:
      settings: How it is to behave.
      metrics: What it has counted.
      budget: The memory that request bodies may take.
      started_at: When it was made, in seconds since 1970.
    """

    def __init__(self, bot: Nanobot, settings: ServerSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.budget = BodyBudget()
        self.started_at = int(time.time())
        self._bot = bot
        self._uploads = Uploads(bot.runtime.workspace)
        self._admission = Admission(
            max_requests=settings.max_requests, max_per_session=settings.max_per_session
        )
        self._draining = False
        self._hurry = trio.Event()
        self._quiet = trio.Event()
        self._open = 0

    @property
    def model(self) -> str:
        """The name of the model that answers."""
        return self._bot.runtime.model

    @property
    def approvals(self) -> ApprovalsClient:
        """What parked turns wait for, of all sessions."""
        return self._bot.approvals

    @property
    def draining(self) -> bool:
        """Whether no more requests are taken."""
        return self._draining

    @property
    def open_requests(self) -> int:
        """How many requests have been begun and not been answered."""
        return self._open

    @property
    def asked(self) -> int:
        """How many requests the bot works on, or has waiting."""
        return self._admission.requests

    def metrics_text(self) -> str:
        """What was counted here and in the runtime, and what is, in Prometheus' format."""
        now = (
            ("nanobot_http_requests_open", "HTTP requests that are being answered.", self._open),
            (
                "nanobot_requests_asked",
                "Requests that the agent works on, or has waiting.",
                self._admission.requests,
            ),
            ("nanobot_draining", "1 while the server takes no more requests.", int(self._draining)),
        )
        return "".join(
            (
                self.metrics.text(),
                *(exposition(name, "gauge", told, [("", {}, value)]) for name, told, value in now),
                runtime_text(self._bot.runtime.statistics()),
            )
        )

    async def readiness(self) -> dict[str, object]:
        """What a load balancer, or whoever debugs one, wants to know.

        Raises:
          ApiError: 503; the server takes no more requests, or could not answer one.
        """
        self.check_open()
        if problem := await self._bot.runtime.problem():
            raise ApiError(503, f"The server is not ready: {problem}.", code="not_ready")
        statistics = self._bot.runtime.statistics()
        return {
            "status": "ready",
            "sessions": statistics.live_sessions,
            "running": statistics.running,
            "queued": statistics.queued,
        }

    def drain(self) -> None:
        """Take no more requests."""
        self._draining = True

    def hurry(self) -> None:
        """End all requests: each client is told."""
        self._draining = True
        self._hurry.set()

    async def wait_quiet(self) -> None:
        """Return when every request has been answered."""
        while self._open:
            self._quiet = trio.Event()
            await self._quiet.wait()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request for the length of the block, whatever becomes of it."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._quiet.set()

    def check_model(self, model: str | None) -> None:
        """Refuse a model that is not the one that answers.

        Raises:
          ApiError: 404.
        """
        if model not in (None, ANY_MODEL, self.model):
            raise ApiError(
                404,
                f"The model {model!r:.200} does not exist. This server has {self.model!r}; leave `model` out to use it.",
                code="model_not_found",
                param="model",
            )

    def check_open(self) -> None:
        """Refuse everything while draining.

        Raises:
          ApiError: 503.
        """
        if self._draining:
            raise shutting_down()

    @asynccontextmanager
    async def ask(
        self, question: Question, client: Client, *, reject_busy: bool
    ) -> AsyncIterator[Following]:
        """Start a run for a question and follow it for the length of the block.

        Raises:
          ApiError: It cannot be started: 409, 413, 422, 429, 503.
        """
        self.check_open()
        key = question.session_key
        if question.history is not None:
            key = f"{key}#{token_hex(8)}"  # of its own: transcripts wait for nobody
        self._admission.enter(key, unless_busy=reject_busy or self.settings.reject_busy)
        try:
            async with self._uploads.kept(
                question.attachments, ephemeral=question.ephemeral
            ) as media:
                try:
                    run = await self._start(question, key, media)
                except Exception as error:
                    raise noted(error) from error
                async with follow(
                    run,
                    client_gone=client.wait_gone,
                    hurry=self._hurry.wait,
                    timeout_s=self.settings.timeout_s,
                ) as following:
                    yield following
        finally:
            self._admission.leave(key)

    async def _start(self, question: Question, key: str, media: Sequence[str]) -> RunStream:
        if question.resumes:
            return await self._bot.resume_streamed(key)
        return await self._bot.run_streamed(
            question.text,
            session_key=key,
            channel="api",
            chat_id=question.session_key,
            sender_id=question.sender_id,
            media=media,
            ephemeral=question.ephemeral,
            history=question.history,
            join_deltas=True,
        )
