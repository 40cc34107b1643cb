"""Which of many runs is started when, and what is said of each; on runs that settle when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors import HomeGone
from nanobot import Job, JobOutcome, RunResult
from nanobot.errors import BotClosed, InvalidArgument
from nanobot.runtime import Run, RunOptions, Runtime
from nanobot.sdk._jobs import Jobs, Posted, Progress


class Here:
    """The home of whoever asks."""

    def do(self, function: Callable[..., object], *args: Any) -> None:
        function(*args)

    def post(self, function: Callable[..., object], *args: Any) -> None:
        function(*args)


class Gone(Here):
    """A home whose loop has ended."""

    def do(self, function: Callable[..., object], *args: Any) -> None:
        raise HomeGone("gone")


async def never(run: Run) -> RunResult[Any]:
    raise AssertionError("no run of these tests gets that far")


class Office:
    """Takes runs, and notes with what they came."""

    def __init__(self, home: Here | None = None) -> None:
        self.runtime = SimpleNamespace(home=home or Here(), forked=False)
        self.posted: dict[str, Run] = {}
        self.options: list[RunOptions] = []
        self.refuses: Exception | None = None
        self.seen: list[Progress] = []

    def post(self, message: str, options: RunOptions) -> Posted:
        if self.refuses is not None:
            raise self.refuses
        self.options.append(options)
        run = self.posted[message] = Run(options["session_key"], never)
        return Posted(cast("Runtime", self.runtime), run)

    def jobs(self, jobs: Iterable[str | Job], concurrency: int = 2, **options: Any) -> Jobs:
        return Jobs(jobs, cast("RunOptions", options), concurrency, self.seen.append, self.post)

    def answer(self, message: str, **parts: Any) -> None:
        self.posted[message].call.settle(RunResult(f"on {message}", **parts))


def taken(jobs: Jobs) -> list[JobOutcome]:
    """All outcomes that are there."""
    return list(iter(jobs.take, None))


def test_an_outcome_that_nobody_took_keeps_its_place_so_no_more_is_started() -> None:
    office = Office()
    jobs = office.jobs(["a", "b", "c", "d"])
    jobs.start()
    assert list(office.posted) == ["a", "b"]
    office.answer("b")
    jobs.start()
    assert list(office.posted) == ["a", "b"]
    assert [outcome.index for outcome in taken(jobs)] == [1]
    jobs.start()
    assert list(office.posted) == ["a", "b", "c"]
    assert not jobs.over


def test_jobs_that_were_refused_keep_their_place_too() -> None:
    waiting: Iterator[Any] = iter([7] * 5)
    jobs = Office().jobs(waiting)
    jobs.start()
    assert len(taken(jobs)) == 2
    assert len(list(waiting)) == 3


def test_it_is_over_when_the_last_outcome_was_handed_out_and_not_before() -> None:
    office = Office()
    jobs = office.jobs(["a"])
    assert (jobs.over, jobs.running) == (False, False)
    jobs.start()
    assert (jobs.over, jobs.running) == (False, True)
    office.answer("a")
    assert (jobs.over, jobs.running) == (False, False)
    assert jobs.take() is not None
    assert jobs.over
    assert jobs.take() is None


def test_progress_counts_who_is_done_failed_and_running_of_how_many() -> None:
    office = Office()
    jobs = office.jobs(["a", "b", "c"], 3)
    jobs.start()
    office.answer("a")
    office.answer("b", error="no")
    assert [outcome.ok for outcome in taken(jobs)] == [True, False]
    office.answer("c")
    taken(jobs)
    assert office.seen == [
        Progress(done=1, failed=0, running=1, total=3),
        Progress(done=2, failed=1, running=1, total=3),
        Progress(done=3, failed=1, running=0, total=3),
    ]


def test_how_many_a_generator_has_is_known_when_it_has_ended() -> None:
    office = Office()
    jobs = office.jobs(iter(["a", "b"]), 1)
    for message in ("a", "b"):
        jobs.start()
        office.answer(message)
        taken(jobs)
    jobs.start()
    assert jobs.over
    assert [progress.total for progress in office.seen] == [None, None]

    office = Office()
    jobs = office.jobs(iter(["a", "b"]), 3)
    jobs.start()
    office.answer("a")
    taken(jobs)
    assert [progress.total for progress in office.seen] == [2]


def test_of_a_list_that_was_given_up_there_are_no_more_than_were_started() -> None:
    office = Office()
    jobs = office.jobs(["a", "b", "c", "d"])
    jobs.start()
    assert len(jobs.cancel_soon()) == 2
    taken(jobs)
    assert [progress.total for progress in office.seen] == [2, 2]
    jobs.start()
    assert jobs.over


def test_options_of_a_job_go_before_those_of_all_and_each_has_a_session_of_its_own() -> None:
    office = Office()
    mine: Job = {"message": "b", "session_key": "mine", "tenant": "b"}
    jobs = office.jobs(["a", mine, "c"], 3, tenant="all")
    jobs.start()
    assert [options.get("tenant") for options in office.options] == ["all", "b", "all"]
    keys = [options["session_key"] for options in office.options]
    assert keys[1] == "mine"
    assert keys[0].startswith("many:")
    assert (keys[0][-2:], keys[2]) == (":0", keys[0][:-1] + "2")
    assert all("message" not in options for options in office.options)
    other = Office()
    other.jobs(["a"]).start()
    assert other.options[0]["session_key"] != keys[0]
    assert mine == {"message": "b", "session_key": "mine", "tenant": "b"}


def test_a_job_that_is_none_fails_alone_and_says_on_which_session_it_would_have_run() -> None:
    office = Office()
    unfit: list[Any] = [{"message": 7}, 7, "c"]
    jobs = office.jobs(unfit, 3)
    jobs.start()
    first, second = taken(jobs)
    assert [first.index, second.index] == [0, 1]
    assert [first.job, second.job] == unfit[:2]
    assert isinstance(first.exception, InvalidArgument)
    assert str(second.error).endswith("and options of run(), not 7")
    key = office.options[0]["session_key"]
    assert (first.session_key, second.session_key) == (key[:-1] + "0", key[:-1] + "1")


def test_a_job_that_is_refused_has_the_session_that_it_named() -> None:
    office = Office()
    office.refuses = InvalidArgument("no")
    jobs = office.jobs([{"message": "a", "session_key": "mine"}])
    jobs.start()
    assert not jobs.over
    (outcome,) = taken(jobs)
    assert (outcome.session_key, outcome.exception) == ("mine", office.refuses)


def test_a_bot_that_is_closed_is_told_when_nothing_is_left_to_hand_out() -> None:
    office = Office()
    waiting = iter(["a", "b", "c", "d"])
    jobs = office.jobs(waiting)
    jobs.start()
    office.answer("a")
    assert len(taken(jobs)) == 1
    office.refuses = BotClosed("closed")
    jobs.start()
    office.answer("b")
    jobs.start()
    assert len(taken(jobs)) == 1
    with pytest.raises(BotClosed):
        jobs.start()
    with pytest.raises(BotClosed):
        jobs.start()
    assert list(waiting) == ["d"]  # no more was taken for nothing


def test_what_is_there_is_handed_out_before_it_is_said_that_the_bot_is_closed() -> None:
    office = Office()
    office.refuses = BotClosed("closed")
    unfit: list[Any] = [7, "a"]
    jobs = office.jobs(unfit)
    jobs.start()
    assert len(taken(jobs)) == 1
    with pytest.raises(BotClosed):
        jobs.start()


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt()])
def test_an_iterable_that_raises_is_not_asked_again(error: BaseException) -> None:
    class Broken:
        def __init__(self) -> None:
            self.left: list[str | None] = ["a", None, "b"]

        def __iter__(self) -> Iterator[str]:
            return self

        def __next__(self) -> str:
            found = self.left.pop(0)
            if found is None:
                raise error
            return found

    office, waiting = Office(), Broken()
    jobs = office.jobs(waiting)
    with pytest.raises(type(error)):
        jobs.start()
    office.answer("a")
    jobs.start()
    assert len(taken(jobs)) == 1
    assert jobs.over
    assert waiting.left == ["b"]


def test_whoever_waits_is_told_of_each_run_that_settles() -> None:
    office = Office()
    told: list[None] = []
    jobs = office.jobs(["a", "b"])
    jobs.notify = lambda: told.append(None)
    jobs.start()
    assert not told
    office.answer("b")
    office.answer("a")
    assert len(told) == 2


def test_a_loop_that_has_ended_is_a_failure_of_each_run_and_not_of_all() -> None:
    office = Office(Gone())
    jobs = office.jobs(["a"])
    jobs.start()
    office.posted["a"].call.fail(ZeroDivisionError())
    (outcome,) = taken(jobs)
    assert isinstance(outcome.exception, ZeroDivisionError)
    assert outcome.session_key == office.options[0]["session_key"]


def test_what_runs_is_cancelled_and_what_has_settled_is_not_forgotten_before_it_is_said() -> None:
    office = Office()
    jobs = office.jobs(["a", "b", "c"])
    jobs.start()
    office.answer("a")
    running = jobs.cancel_soon()
    assert [posted.run for posted in running] == list(office.posted.values())
    jobs.start()
    assert len(office.posted) == 2
    assert [outcome.error is None for outcome in taken(jobs)] == [True, False]
    office = Office()
    unfit: list[Any] = ["a", 7]
    jobs = office.jobs(unfit)
    jobs.start()
    office.answer("a")
    jobs.cancel_soon()
    jobs.forget()
    assert (jobs.take(), jobs.over) == (None, True)


def test_a_forked_child_cancels_nothing_and_waits_for_nothing() -> None:
    office = Office()
    jobs = office.jobs(["a"])
    jobs.refuse_if_forked()
    jobs.start()
    jobs.refuse_if_forked()
    office.runtime.forked = True
    with pytest.raises(BotClosed):
        jobs.refuse_if_forked()
    jobs.cancel_soon()
    assert not office.posted["a"].settled


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, "2"], ids=repr)
def test_concurrency_is_a_number_of_runs(concurrency: Any) -> None:
    with pytest.raises(InvalidArgument, match="concurrency must be a number of runs >= 1"):
        Office().jobs(["a"], concurrency)


@pytest.mark.parametrize("one", ["a", b"a", {"message": "a"}], ids=repr)
def test_one_job_is_no_list_of_jobs(one: Any) -> None:
    with pytest.raises(InvalidArgument, match="put the one in a list"):
        Office().jobs(one)


def test_what_went_wrong_is_said_in_words() -> None:
    def error(**parts: Any) -> str | None:
        return JobOutcome(index=0, job="a", session_key="k", **parts).error

    parked = RunResult("", stop_reason="parked", metadata={"approval": {"id": "x7"}})
    assert error(exception=ValueError("too long")) == "too long"
    assert error(exception=ValueError()) == "ValueError"
    assert error(result=RunResult("a", error="down")) == "down"
    assert error(result=RunResult("a")) is None
    assert error(result=parked) == "it waits for approval x7"
    assert error() is None
