"""What many processes have done to many sessions while everything failed, held against what they were told.

In the manner of Jepsen: processes take turns in random sessions and say which turns were acknowledged, while they are killed and
stopped, their connections are cut, silenced and terminated, and the server is restarted. Afterwards the history of each session
is one legal chain, and each acknowledged turn is in it once.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.sessions.loopback_proxy import LoopbackProxy, open_proxy
from tests.sessions.postgres_cluster import Cluster, open_cluster
from tests.sessions.postgres_server import new_schema, run_sql

# After psycopg was looked for: without it these tests skip.
from nanobot.messages import AssistantMessage, UserMessage  # isort: skip
from tests.sessions import postgres_child  # isort: skip
from tests.sessions.postgres_child import LEASE_TIMEOUT_S, store_at  # isort: skip

ROOT = Path(__file__).parents[2]

PLAGUED = f"plagued_{secrets.token_hex(4)}"
"""What the workers' connections are called: others on the server belong to other tests."""

TERMINATE = f"""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = '{PLAGUED}' AND random() < 0.3
"""


class Worker:
    """One process, and its way to the server; started again when it was killed, under another name."""

    def __init__(self, number: int, url: str, proxy: LoopbackProxy, sessions: int) -> None:
        self.number = number
        self.proxy = proxy
        self.acknowledged: list[tuple[str, str]] = []
        self.failures: Counter[str] = Counter()
        self.at_work = threading.Event()
        self._url = url
        self._sessions = sessions
        self._lives = 0
        self._readers: list[threading.Thread] = []
        self.process = self._start()

    def kill(self) -> None:
        """kill -9, and another one in its place."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Have it finish what it does."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            for reader in self._readers:
                reader.join()

    def _start(self) -> subprocess.Popen[str]:
        self._lives += 1
        name = f"{self.number}-{self._lives}"
        assert postgres_child.__file__ is not None
        process = subprocess.Popen(
            [
                sys.executable,
                postgres_child.__file__,
                "take_turns",
                self._url,
                name,
                str(self._sessions),
                "600",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # that connections break is said often
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        reader = threading.Thread(target=self._read, args=(process,))
        reader.start()
        self._readers.append(reader)
        return process

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if acknowledged := re.fullmatch(r"ack (.+)\|(.+)\n", line):
                    self.acknowledged.append((acknowledged[1], acknowledged[2]))
                    self.at_work.set()
                elif line.startswith("failed "):
                    self.failures[line.split()[1]] += 1


def plague(
    workers: list[Worker], url: str, cluster: Cluster | None, seconds: float
) -> Counter[str]:
    """Have things fail at random, one after the other; returns how often each did."""
    ends_at = time.monotonic() + seconds
    done: Counter[str] = Counter()

    def cut(worker: Worker) -> None:
        worker.proxy.cut()

    def silence(worker: Worker) -> None:
        worker.proxy.mode = "silent"
        time.sleep(random.random() * 1.5 * LEASE_TIMEOUT_S)
        worker.proxy.mode = "pass"
        worker.proxy.cut()  # what was swallowed is missing in the stream

    def stop(worker: Worker) -> None:
        worker.stop(random.random() * 2 * LEASE_TIMEOUT_S)

    def kill(worker: Worker) -> None:
        worker.kill()

    def terminate(_worker: Worker) -> None:
        run_sql(url, TERMINATE)

    def restart(_worker: Worker) -> None:
        assert cluster is not None
        cluster.stop(random.choice(["fast", "immediate"]))
        cluster.start()

    faults: list[Callable[[Worker], None]] = [cut, cut, silence, stop, kill, terminate, terminate]
    if cluster is not None:
        faults.append(restart)
    while time.monotonic() < ends_at:
        fault = random.choice(faults)
        fault(random.choice(workers))
        done[fault.__name__] += 1
        time.sleep(random.random() * 0.3)
    return done


def check(url: str, acknowledged: list[tuple[str, str]]) -> int:
    """Hold the histories against what was acknowledged; returns how many turns are stored whole."""
    assert not [turn for turn, times in Counter(acknowledged).items() if times > 1]
    store = store_at(url)
    stored: Counter[tuple[str, str]] = Counter()
    try:
        for info in store.list_sessions():
            record = store.read(info.key)
            assert record is not None
            said = record.messages
            assert len(said) == record.position.sequence == info.message_count
            for place, message in enumerate(said):
                turn, _, what = str(message.content).partition(" ")
                if isinstance(message, AssistantMessage):
                    # Nobody came between a question and its answer.
                    assert what == "is answered"
                    assert said[place - 1] == UserMessage(f"{turn} asks")
                    stored[info.key, turn] += 1
                else:
                    assert what == "asks"
            questions = [m.content for m in said if isinstance(m, UserMessage)]
            assert len(questions) == len(set(questions))
    finally:
        store.close()
    assert not [turn for turn, times in stored.items() if times > 1]
    assert not [turn for turn in acknowledged if not stored[turn]]
    # One chain: the numbers have no gaps, and fencing tokens only grow along it.
    ((gaps,),) = run_sql(
        url,
        """SELECT count(*) FROM (
               SELECT number, row_number() OVER chain AS place, token, lag(token) OVER chain AS before
               FROM nanobot_message WINDOW chain AS (PARTITION BY session ORDER BY number)) m
           WHERE number <> place OR token < before""",
    )
    assert gaps == 0
    return stored.total()


@contextmanager
def working(url: str, processes: int, sessions: int) -> Iterator[list[Worker]]:
    """So many processes, each with a proxy of its own to the server."""
    with ExitStack() as stack:
        workers: list[Worker] = []
        for number in range(processes):
            proxy, through = stack.enter_context(open_proxy(url))
            worker = Worker(
                number, f"{through}&connect_timeout=2&application_name={PLAGUED}", proxy, sessions
            )
            stack.callback(worker.end)
            workers.append(worker)
        yield workers


def run_check(
    url: str, cluster: Cluster | None, processes: int, sessions: int, seconds: float
) -> None:
    store = store_at(url)
    store.list_sessions()
    store.close()
    with working(url, processes, sessions) as workers:
        for worker in workers:
            assert worker.at_work.wait(60)
        faults = plague(workers, url, cluster, seconds)
    acknowledged = [turn for worker in workers for turn in worker.acknowledged]
    failures = sum((worker.failures for worker in workers), Counter[str]())
    whole = check(url, acknowledged)
    print(
        f"{processes} processes, {sessions} sessions, {seconds:g} s: {len(acknowledged)} turns acknowledged, "
        f"{whole} stored, faults {dict(faults)}, turns that failed {dict(failures)}"
    )
    assert len(acknowledged) >= processes


def test_histories_are_legal_whatever_fails() -> None:
    with new_schema() as url:
        run_check(url, None, processes=3, sessions=10, seconds=5.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_histories_are_legal_whatever_fails_for_a_minute() -> None:
    with open_cluster() as cluster, new_schema(cluster.url) as url:
        run_check(url, cluster, processes=8, sessions=200, seconds=60.0)
