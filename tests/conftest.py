"""How tests run: three for every two cores, coroutines under Trio, hypothesis by profile.

pytest-trio is not used: its mode that takes every coroutine also takes the ones marked for
pytest-asyncio, and it wraps each failure in an ExceptionGroup.
"""

from __future__ import annotations

import inspect
import os
import random
import signal
from collections.abc import Callable, Coroutine, Generator
from functools import partial, wraps
from typing import Any

import hypothesis
import pytest
import trio
import trio._core._run as scheduler
from trio.testing import MockClock, wait_all_tasks_blocked

# A shared two-core machine says nothing about how slow an example is, so neither profile times one.
hypothesis.settings.register_profile(
    "ci",
    max_examples=50,
    deadline=None,
    derandomize="CI" in os.environ,  # what a change is judged by depends on the change alone
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "thorough", parent=hypothesis.settings.get_profile("ci"), max_examples=1_000
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# Trio shuffles ready tasks with a Random of its own. Seeding it makes a failing order come back:
# by hypothesis for its examples, and below by the seed that pytest-randomly prints.
hypothesis.register_random(scheduler._r)
scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # there is no public switch

# A shell that starts something in the background has it ignore Ctrl-C, and so whatever that starts. Tests start programs that
# have to end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

AsyncTest = Callable[..., Coroutine[Any, Any, None]]


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """More processes than cores: 40 % of the time of our tests is spent on waiting, for programs to end or for what must not
    happen. Who wants another number says so, as in `make test ARGS=-n2`."""
    cores = yield
    return cores + (cores + 1) // 2


@pytest.fixture
def mock_clock() -> MockClock:
    """Trio's clock for this test; it stands still until the test moves it with `jump`."""
    return MockClock()


@pytest.fixture
def autojump_clock() -> MockClock:
    """Trio's clock for this test; it jumps to the next deadline whenever every task waits."""
    return MockClock(autojump_threshold=0)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test under Trio; leave every other test to pytest and its plugins."""
    test = pyfuncitem.obj
    if pyfuncitem.get_closest_marker("asyncio") is not None:
        return None
    if hasattr(test, "hypothesis"):
        # `@given` stands between pytest and the coroutine; each example gets a Trio run of its own
        if inspect.iscoroutinefunction(test.hypothesis.inner_test):
            test.hypothesis.inner_test = _under_trio(test.hypothesis.inner_test)
        return None
    if not inspect.iscoroutinefunction(test):
        return None
    scheduler._r.seed(random.getrandbits(64))
    fixtures = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    _under_trio(test)(**fixtures)
    return True


def _under_trio(test: AsyncTest) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        clock = next((value for value in kwargs.values() if isinstance(value, MockClock)), None)
        trio.run(_leave_nothing_behind, partial(test, *args, **kwargs), clock=clock)

    return run


async def _leave_nothing_behind(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Await the test; fail it if a task that it started outside any nursery is still alive."""
    before = _tasks_without_a_parent()
    await test()
    await wait_all_tasks_blocked()  # what is on its way out may finish
    left = _tasks_without_a_parent() - before
    if left:
        names = ", ".join(sorted(task.name for task in left))
        pytest.fail(f"still running after the test: {names}")


def _tasks_without_a_parent() -> set[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    assert root is not None  # we are inside a run
    return {task for nursery in root.child_nurseries for task in nursery.child_tasks}
