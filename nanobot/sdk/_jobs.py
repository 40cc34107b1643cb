"""Many runs at once: what is to be run, what came of each, and which is started when. No waiting happens here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, Final, Required, TypeAlias
from uuid import uuid4

from msgspec import Struct

from actors import HomeGone, cancel_soon
from nanobot.agent import RunResult
from nanobot.errors import BotClosed, InvalidArgument
from nanobot.runtime import Run, RunOptions, Runtime

from ._engine import refuse_if_forked, settled_result

__all__ = ["CONCURRENCY", "Job", "JobOutcome", "Jobs", "Posted", "Progress"]

CONCURRENCY: Final = 8
"""How many runs go on at once unless told otherwise: enough to hide the latency of a model, few enough for a free account."""


class Job(RunOptions, total=False):
    """One run of many: its message, and any of the keyword arguments of `run`."""

    message: Required[str]
    output_type: Any


class JobOutcome(Struct, frozen=True, kw_only=True):
    """What came of one job.

    Attributes:
      index: Which job, in the order in which they were given, counted from 0.
      job: The job as it was given.
      session_key: The session that it ran on.
      result: The run's result, which may say that the model failed; None if it raised.
      exception: What it raised instead: the caller's mistake, or a bug. None if there is a result.
    """

    index: int
    job: str | Job
    session_key: str
    result: RunResult[Any] | None = None
    exception: Exception | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer: a result without an error, and not parked."""
        return self.error is None

    @property
    def error(self) -> str | None:
        """What went wrong, in words; None if there is an answer."""
        if self.exception is not None:
            return str(self.exception) or type(self.exception).__name__
        if self.result is None or self.result.stop_reason != "parked":
            return None if self.result is None else self.result.error
        return f"it waits for approval {self.result.metadata['approval']['id']}"


class Progress(Struct, frozen=True):
    """How far it has come. `total` is None as long as that is not known, as with a generator."""

    done: int
    failed: int
    running: int
    total: int | None


class Posted(Struct, frozen=True, eq=False):
    """A run that was posted, and where it lives."""

    runtime: Runtime
    run: Run


Post: TypeAlias = Callable[[str, RunOptions], Posted]
"""Posts a run; raises for a caller's mistake, and `BotClosed`."""


class Jobs:
    """The jobs of one `run_many`: keeps `concurrency` of them running and collects what comes of them.

    Belongs to whoever iterates, in one thread. Jobs are taken from the iterable when there is room to start them, so it may be
    endless; at most `concurrency` runs and outcomes are here at any time.

    Args:
      jobs: Messages, or dicts of a message and options.
      options: Options for all jobs; those of a job go before them.
      concurrency: How many run at once.
      on_progress: Called for each outcome, right before it is handed out.
      post: Posts a run.

    Raises:
      InvalidArgument: The concurrency is not at least 1, or the jobs are one string.
    """

    def __init__(
        self,
        jobs: Iterable[str | Job],
        options: RunOptions,
        concurrency: int,
        on_progress: Callable[[Progress], object] | None,
        post: Post,
    ) -> None:
        if not isinstance(concurrency, int) or concurrency < 1:
            raise InvalidArgument(f"concurrency must be a number of runs >= 1, not {concurrency!r}")
        if isinstance(jobs, str | bytes | Mapping):
            raise InvalidArgument("jobs must be a list of messages or dicts; put the one in a list")
        self._jobs: Iterator[str | Job] = iter(jobs)
        self._total = len(jobs) if isinstance(jobs, Sized) else None
        self._options = options
        self._concurrency = concurrency
        self._on_progress = on_progress
        self._post = post
        self._prefix = f"many:{uuid4().hex[:8]}:"
        self._next_index = 0
        self._exhausted = False
        self._closed: BotClosed | None = None
        self._running: dict[Posted, tuple[int, str | Job]] = {}
        self._outcomes: deque[JobOutcome] = deque()
        self._done = self._failed = 0
        self.notify: Callable[[], None] = _nobody

    @property
    def over(self) -> bool:
        """Whether every outcome was handed out, and no more will come."""
        return self._exhausted and not (self._running or self._outcomes)

    @property
    def running(self) -> bool:
        """Whether a run goes on."""
        return any(not posted.run.settled for posted in self._running)

    def refuse_if_forked(self) -> None:
        """Keep a forked child from waiting for what only its parent will see; raises `BotClosed`."""
        for posted in self._running:
            refuse_if_forked(posted.runtime)

    def start(self) -> None:
        """Start as many as there is room for. `notify` is called, perhaps in another thread, when one of them settles.

        Raises:
          BotClosed: The bot was closed, and nothing is left to hand out.
          Exception: Whatever the iterable raised; no more is started then.
        """
        while not self._exhausted and len(self._running) + len(self._outcomes) < self._concurrency:
            try:
                job = next(self._jobs)
            except StopIteration:
                self._exhausted = True
                break
            except BaseException:
                self._exhausted = True
                raise
            index, self._next_index = self._next_index, self._next_index + 1
            key = f"{self._prefix}{index}"
            try:
                message, options = self._checked(job, key)
                key = options["session_key"]
                posted = self._post(message, options)
            except BotClosed as error:
                self._exhausted = True
                self._closed = error
                break
            except Exception as error:  # noqa: BLE001 - of this job: the others go on
                outcome = JobOutcome(index=index, job=job, session_key=key, exception=error)
                self._outcomes.append(outcome)
                continue
            self._running[posted] = index, job
            try:
                posted.runtime.home.do(posted.run.call.on_settled, self.notify)
            except HomeGone:
                pass  # it has settled, which is looked for next
        if self._closed is not None and not (self._running or self._outcomes):
            raise self._closed

    def take(self) -> JobOutcome | None:
        """An outcome that is there, or None."""
        if not self._outcomes:
            for posted, (index, job) in tuple(self._running.items()):
                if posted.run.settled:
                    del self._running[posted]
                    self._outcomes.append(_outcome(posted.run, index, job))
        if not self._outcomes:
            return None
        outcome = self._outcomes.popleft()
        self._done += 1
        self._failed += not outcome.ok
        if self._on_progress is not None:
            total = self._next_index if self._exhausted else self._total
            running = sum(not posted.run.settled for posted in self._running)
            self._on_progress(Progress(self._done, self._failed, running, total))
        return outcome

    def cancel_soon(self) -> tuple[Posted, ...]:
        """Start no more, cancel what runs, and return that."""
        self._exhausted = True
        running = tuple(self._running)
        for posted in running:
            if not posted.run.settled and not posted.runtime.forked:
                cancel_soon(posted.runtime.home, posted.run.call)
        return running

    def forget(self) -> None:
        """Hand nothing more out."""
        self._running.clear()
        self._outcomes.clear()

    def _checked(self, job: str | Job, key: str) -> tuple[str, RunOptions]:
        options: dict[str, Any] = {"session_key": key, **self._options}
        if isinstance(job, str):
            return job, options  # type: ignore[return-value]  # a RunOptions, put together
        if not isinstance(job, Mapping) or not isinstance(job.get("message"), str):
            raise InvalidArgument(
                f"a job is a message, or a dict with a message and options of run(), not {job!r:.200}"
            )
        options.update(job)
        return str(options.pop("message")), options  # type: ignore[return-value]  # checked where it is used


def _outcome(run: Run, index: int, job: str | Job) -> JobOutcome:
    try:
        result = settled_result(run)
    except Exception as error:  # noqa: BLE001 - of this job: the others go on
        return JobOutcome(index=index, job=job, session_key=run.session_key, exception=error)
    return JobOutcome(index=index, job=job, session_key=run.session_key, result=result)


def _nobody() -> None:
    """Nobody waits yet."""
