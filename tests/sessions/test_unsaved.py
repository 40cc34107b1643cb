"""What waits to be stored is stored once, by whoever comes first."""

from __future__ import annotations

import threading

import pytest

from nanobot.errors import StoreError
from nanobot.messages import UserMessage
from nanobot.sessions import InMemoryStore, Pending, Unsaved

ONE, TWO = UserMessage("one"), UserMessage("two")


def test_what_is_added_waits_behind_what_was_there() -> None:
    unsaved = Unsaved()
    assert unsaved.get("a") is None
    unsaved.add("a", [ONE], {"title": "x", "old": 1})
    unsaved.add("a", [TWO], {"old": None})
    unsaved.add("b", [], None)
    assert unsaved.get("a") == Pending((ONE, TWO), {"title": "x", "old": None})
    assert unsaved.get("b") == Pending((), None)
    assert "a" in unsaved


def test_what_was_saved_is_forgotten_and_what_was_given_up_meanwhile_stays_given_up() -> None:
    unsaved = Unsaved()
    unsaved.add("a", [ONE], None)
    taken = unsaved.get("a")
    assert taken is not None
    assert unsaved.drop("a")
    assert not unsaved.drop("a")
    unsaved.add("a", [TWO], None)
    unsaved.forget("a", taken)  # of no effect on what came after
    later = unsaved.get("a")
    assert later == Pending((TWO,), None)
    assert later is not None
    unsaved.forget("a", later)
    assert "a" not in unsaved


def test_what_cannot_be_written_now_stays() -> None:
    unsaved = Unsaved()
    unsaved.add("busy", [ONE], None)
    unsaved.add("free", [ONE], None)
    written: list[str] = []

    def write(key: str, pending: Pending) -> bool:
        assert pending == Pending((ONE,), None)
        if key == "busy":
            return False
        written.append(key)
        return True

    unsaved.save(write)
    unsaved.save(write)
    assert written == ["free"]
    assert "busy" in unsaved


def test_a_write_that_fails_loses_nothing() -> None:
    unsaved = Unsaved()
    unsaved.add("a", [ONE], None)

    def fail(key: str, pending: Pending) -> bool:
        raise StoreError("disk full")

    with pytest.raises(StoreError):
        unsaved.save(fail)
    assert unsaved.get("a") == Pending((ONE,), None)


def test_threads_that_save_at_once_write_each_message_once() -> None:
    unsaved, store = Unsaved(), InMemoryStore()

    def save_and_add(number: int) -> None:
        for round_ in range(50):
            unsaved.add(f"s{round_ % 5}", [UserMessage(f"{number} {round_}")], None)
            unsaved.save(lambda key, pending: store.extend(key, pending.messages))

    threads = [threading.Thread(target=save_and_add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = [store.read(info.key) for info in store.list_sessions()]
    said = [message.content for record in records if record for message in record.messages]
    assert sorted(map(str, said)) == sorted(f"{n} {r}" for n in range(4) for r in range(50))
