"""Where a pattern of `re` first matches a line, found in time that grows with the line, whatever the pattern.

The pattern becomes a graph of nodes (Thompson), and the set of nodes that a text can have led to is the state of an
automaton, made when it is first reached (as RE2 does). A state is a dict from characters to states, so a character
costs one look-up, however many nodes are in the set.

It reads the line **from its end to its beginning**, and the pattern with it. A place where the pattern then comes to
its end is a place where a match begins, and the last of them is the leftmost: what `re.search` finds, which tries the
places from left to right and at each one everything that can match. One automaton is enough for that; read forwards,
each node of the set would have to remember where its match began.

The parser of `re` reads the pattern, and `re` itself says which characters one element matches and where `^` or `\\b`
hold, so these mean what they mean there. What remembers or looks around ((a)\\1, (?=a), a*+) is not regular, or not
here. Only the beginning is told: the end of a match depends on priorities, which sets do not know.

Imports only the standard library, for `_line_matcher` loads it.

Source: Thompson, "Regular Expression Search Algorithm", 1968; Cox, "Regular Expression Matching Can Be Simple And
Fast", 2007, and "Regular Expression Matching in the Wild", 2010.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import reduce
from operator import getitem
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["LinearRegex", "NotRegular"]

_MOST_NODES: Final = 20_000
"""A repetition that is counted, such as a{1000}, has its nodes as many times; (a{1000}){1000} would fill the memory."""

_MOST_KEPT: Final = 500_000
"""Transitions, and nodes in states; all are forgotten when there are more. About 100 bytes each."""

_ONE: Final = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)
_REPEAT: Final = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_ALPHABETS: Final = int(re.ASCII | re.UNICODE | re.LOCALE)

_Item: TypeAlias = tuple[Any, Any]
"""An element of the tree that the parser of `re` makes: what it is, and its arguments."""


class NotRegular(Exception):
    """The pattern is one of `re` that no automaton of this kind can decide."""


class LinearRegex:
    """A pattern to look for in lines: texts without a line break.

    Raises:
      re.error: The pattern is none, or too large.
      NotRegular: It is one, but only for `re`.
    """

    def __init__(self, pattern: str, flags: int = 0, *, most_kept: int = _MOST_KEPT) -> None:
        graph = _Graph(pattern, flags)
        self._any = _Automaton(graph, most_kept, stops=True)
        self._all = _Automaton(graph, most_kept, stops=False)

    def start(self, text: str) -> int | None:
        """Where the leftmost match begins: `re.search(pattern, text).start()`. None if there is none."""
        backwards = text[::-1]
        if not reduce(getitem, backwards, self._any.first)[""].begins:
            return None
        found = None
        state = self._all.first
        place = len(text)
        for character in backwards:
            state = state[character]
            if state.begins:
                found = place
            place -= 1
        return 0 if state[""].begins else found


class _Node(NamedTuple):
    """A place in the pattern, read from its end.

    Attributes:
      test: What a character has to be to get on, for a node that reads one.
      holds: What has to be true of the characters before and after, for a node that reads none.
      following: The nodes behind it; those with neither condition only lead on.
    """

    test: Callable[[str], object] | None
    holds: Callable[[str, str], bool] | None
    following: list[int]


class _Graph:
    """The nodes of a pattern. The first one is the end, where a match begins; `entry` is where reading begins."""

    def __init__(self, pattern: str, flags: int) -> None:
        self._known: dict[tuple[str, int], re.Pattern[str]] = {}
        self._asserts = False
        self.nodes = [_Node(None, None, [])]
        tree = _parser.parse(pattern, flags)
        self.entry = self._sequence(tree, 0, tree.state.flags)
        self._alike: dict[str, str] = {"": ""}
        self._representative: dict[tuple[str, bytes], str] = {}

    def kind(self, character: str) -> str:
        """A character that is the same to every assertion; "" stands for the line's end."""
        if not self._asserts or not character:
            return ""
        return "a" if _ASCII_WORD(character) else "é" if _WORD(character) else " "

    def alike(self, character: str) -> str:
        """The first character seen that is the same to every node."""
        if character not in self._alike:
            tests = bytes(one.match(character) is None for one in self._known.values())
            looks = (self.kind(character), tests)
            self._alike[character] = self._representative.setdefault(looks, character)
        return self._alike[character]

    def _add(
        self,
        following: list[int],
        test: Callable[[str], object] | None = None,
        holds: Callable[[str, str], bool] | None = None,
    ) -> int:
        if len(self.nodes) >= _MOST_NODES:
            raise re.error("the pattern is too large")
        self.nodes.append(_Node(test, holds, following))
        return len(self.nodes) - 1

    def _sequence(self, items: Iterable[_Item], following: int, flags: int) -> int:
        """Add the nodes of items one behind the other; return the one to enter by, which is the last item's."""
        for item in items:
            following = self._item(item, following, flags)
        return following

    def _item(self, item: _Item, following: int, flags: int) -> int:
        kind, arguments = item
        if kind in _ONE:
            return self._add([following], test=self._compiled(item, flags).match)
        if kind is _constants.AT:
            self._asserts = True
            matches = self._compiled(item, flags).match
            return self._add(
                [following],
                holds=lambda before, after: matches(before + after, len(before)) is not None,
            )
        if kind is _constants.BRANCH:
            return self._add([self._sequence(way, following, flags) for way in arguments[1]])
        if kind is _constants.SUBPATTERN:
            _, more, fewer, inside = arguments
            if more & _ALPHABETS:
                flags &= ~_ALPHABETS
            return self._sequence(inside, following, (flags | more) & ~fewer)
        if kind in _REPEAT:
            least, most, inside = arguments
            return self._repeat(least, most, inside, following, flags)
        raise NotRegular(str(kind))

    def _repeat(
        self, least: int, most: int, items: Iterable[_Item], following: int, flags: int
    ) -> int:
        if most == _constants.MAXREPEAT:
            ways = [following]
            following = self._add(ways)
            ways.append(self._sequence(items, following, flags))
        else:
            behind = following
            for _ in range(most - least):
                inside = self._sequence(items, following, flags)
                if inside == following:  # nothing, any number of times
                    break
                following = self._add([inside, behind])
        for _ in range(least):
            inside = self._sequence(items, following, flags)
            if inside == following:
                break
            following = inside
        return following

    def _compiled(self, item: _Item, flags: int) -> re.Pattern[str]:
        key = (repr(item), flags)
        if key not in self._known:
            alone = _parser.SubPattern(_parser.State(), [item])
            self._known[key] = _compiler.compile(alone, flags)
        return self._known[key]


_WORD: Final = re.compile(r"\w").match
_ASCII_WORD: Final = re.compile(r"\w", re.ASCII).match


class _State(dict[str, "_State"]):
    """What can have been read of the pattern so far, and where each character leads from there.

    Attributes:
      nodes: Those that the last character led to; what they lead on to depends on the next one.
      after: The kind of the last character, which stands after the place where reading is.
      begins: Whether a match begins after that character: one that is stopped at, or at this place only.
    """

    __slots__ = ("after", "automaton", "begins", "nodes")

    def __init__(
        self, automaton: _Automaton, nodes: frozenset[int], after: str, begins: bool
    ) -> None:
        super().__init__()
        self.automaton = automaton
        self.nodes = nodes
        self.after = after
        self.begins = begins

    def __missing__(self, character: str) -> _State:
        following = self.automaton.following(self, character)
        self[character] = following
        return following


class _Automaton:
    """The states of a graph that texts have led to; when they are too many, it begins anew.

    Attributes:
      first: The state at the end of a text.
    """

    def __init__(self, graph: _Graph, most_kept: int, *, stops: bool) -> None:
        self._graph = graph
        self._most_kept = most_kept
        self._stops = stops
        self._states: dict[tuple[frozenset[int], str, bool], _State] = {}
        self.kept = 0
        self.first = _State(self, frozenset(), "", False)

    def following(self, state: _State, character: str) -> _State:
        """The state that a character leads to, "" being the line's beginning."""
        if self._stops and state.begins:
            return state
        if self.kept > self._most_kept:
            self._forget()
        self.kept += 1
        alike = self._graph.alike(character)
        if alike != character:
            return state[alike]
        nodes, begins = self._read(state, character)
        if begins and self._stops:
            nodes = frozenset()
        key = (nodes, self._graph.kind(character), begins)
        if key not in self._states:
            self.kept += len(nodes) + 1
            self._states[key] = _State(self, *key)
        return self._states[key]

    def _read(self, state: _State, character: str) -> tuple[frozenset[int], bool]:
        """The nodes that a character leads to, and whether a match begins after it."""
        graph, before = self._graph, self._graph.kind(character)
        waiting = [graph.entry, *state.nodes]  # a match may end at every place
        seen = set(waiting)
        reached: set[int] = set()
        while waiting:
            test, holds, following = graph.nodes[waiting.pop()]
            if test is not None:
                if character and test(character):
                    reached.update(following)
            elif holds is None or holds(before, state.after):
                new = [node for node in following if node not in seen]
                seen.update(new)
                waiting += new
        return frozenset(reached), 0 in seen

    def _forget(self) -> None:
        for state in (self.first, *self._states.values()):
            state.clear()  # they lead to each other: without this they would wait for the collector
        self._states.clear()
        self.kept = 0
