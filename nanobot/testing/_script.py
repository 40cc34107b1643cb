"""Where the answers come from: a list in order, a function of the request, or one list per session."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

from nanobot.errors import UsageError

__all__ = [
    "BySession",
    "Script",
    "ScriptExhausted",
    "ScriptFunction",
    "by_session",
    "function_from_script",
]

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)
RequestT = TypeVar("RequestT")


class ScriptExhausted(AssertionError):
    """More was asked of a scripted model than its script has answers for."""


class BySession(Generic[ItemT_co]):
    """One list of answers per session; made by `by_session`."""

    def __init__(self, answers: Mapping[str, Iterable[ItemT_co]]) -> None:
        self.answers = answers
        self._words = {key: re.compile(rf"(?<!\w){re.escape(key)}(?!\w)") for key in answers}

    def session_of(self, user_texts: Sequence[str]) -> str:
        """The one key that occurs in what the user said.

        Raises:
          UsageError: None of the keys occurs there, or more than one.
        """
        found = [key for key, word in self._words.items() if any(map(word.search, user_texts))]
        if len(found) == 1:
            return found[0]
        raise UsageError(
            f"by_session wants exactly one of its keys in the user's messages; found {found or 'none'}. "
            f"Keys: {list(self.answers)}; messages: {[text[:80] for text in user_texts]}"
        )


def by_session(answers: Mapping[str, Iterable[ItemT]]) -> BySession[ItemT]:
    """Give each of several conversations answers of its own, in whatever order their requests arrive.

    A model is not told session keys, so a conversation is recognized by a word of the user's: the key that occurs, as a
    whole word, in the user messages of the request. History repeats them, so once per session is enough.

    ```python
    import trio
    from nanobot.messages import UserMessage
    from nanobot.providers import ModelRequest
    from nanobot.testing import ScriptedProvider, by_session


    async def main() -> None:
        provider = ScriptedProvider(by_session({"Alice": ["Hello, Alice."], "Bob": ["Hello, Bob."]}))
        for name in ("Bob", "Alice"):
            stream = await provider.open(ModelRequest("scripted", [UserMessage(f"I am {name}.")]))
            print([delta async for batch in stream for delta in batch])


    trio.run(main)
    ```

    A request in which no key occurs, or more than one, is a `UsageError`.
    """
    return BySession(answers)


ScriptFunction: TypeAlias = Callable[[RequestT], ItemT | Awaitable[ItemT]]
Script: TypeAlias = Iterable[ItemT] | ScriptFunction[RequestT, ItemT] | BySession[ItemT]


def function_from_script(
    script: Script[ItemT, RequestT],
    *,
    owner: str,
    check: Callable[[ItemT], object],
    user_texts: Callable[[RequestT], Sequence[str]],
) -> ScriptFunction[RequestT, ItemT]:
    """Turn any form of script into a function of the request.

    `owner` names the script in errors. `check` refuses an item by raising; it is called at once for what stands in a
    list or tuple, so that a typo fails where it was written. `user_texts` reads the user's messages out of a request.
    """
    if isinstance(script, BySession):
        return _function_from_sessions(script, owner=owner, check=check, user_texts=user_texts)
    if isinstance(script, str | bytes | Mapping):
        raise UsageError(
            f"{owner} needs a list of answers, such as [{script!r}]; got {script!r} itself"
        )
    if isinstance(script, Iterable):
        if isinstance(script, list | tuple):
            for item in script:
                check(item)
        return _function_from_items(iter(script), owner=owner)
    if callable(script):
        return script
    raise UsageError(
        f"{owner} needs a list of answers, a function or by_session({{...}}); got {script!r}"
    )


def _function_from_items(items: Iterator[ItemT], *, owner: str) -> ScriptFunction[RequestT, ItemT]:
    taken = 0

    def next_item(request: RequestT) -> ItemT:
        nonlocal taken
        for item in items:
            taken += 1
            return item
        raise ScriptExhausted(f"{owner} has {taken} answers, all given, and was asked for one more")

    return next_item


def _function_from_sessions(
    script: BySession[ItemT],
    *,
    owner: str,
    check: Callable[[ItemT], object],
    user_texts: Callable[[RequestT], Sequence[str]],
) -> ScriptFunction[RequestT, ItemT]:
    functions: dict[str, ScriptFunction[RequestT, ItemT]] = {
        key: function_from_script(
            items, owner=f"{owner}, session {key!r},", check=check, user_texts=user_texts
        )
        for key, items in script.answers.items()
    }
    return lambda request: functions[script.session_of(user_texts(request))](request)
