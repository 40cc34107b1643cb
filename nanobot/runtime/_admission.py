"""How many runs are in their turn at the same time, and whose run is the next."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from actors import Shares

__all__ = ["Admission", "Place"]


class Place:
    """One run's place in the queue, and then among those that are in their turn.

    It begins with one owner. `share()` adds one for a run inside that may outlive the first; the place is given back when the
    last owner has called `release()`.
    """

    __slots__ = ("_admission", "_owners", "granted", "on_grant")

    def __init__(self, admission: Admission, on_grant: Callable[[], object]) -> None:
        self._admission = admission
        self._owners = 1
        self.granted = False
        self.on_grant = on_grant

    def share(self) -> Place:
        """Add an owner, so that the place stays taken until that one too has called `release()`."""
        self._owners += 1
        return self

    def release(self) -> None:
        """Give up one owner's part: the last one leaves, or stops waiting."""
        self._owners -= 1
        if self._owners == 0:
            self._admission.give_back(self)


class Admission:
    """Lets so many runs be in their turn, fairly among tenants; see `Shares`. Lives in the engine.

    Args:
      places: That many.
      on_contention: Called whenever somebody starts to wait.
    """

    def __init__(self, places: int, on_contention: Callable[[], object]) -> None:
        self._shares: Shares[Place] = Shares(places)
        self._on_contention = on_contention

    @property
    def places(self) -> int:
        """How many there are."""
        return self._shares.places

    @property
    def taken(self) -> int:
        """How many are taken."""
        return self._shares.taken

    @property
    def waiting(self) -> int:
        """How many runs wait for one."""
        return self._shares.waiting

    def request(self, tenant: Hashable, on_grant: Callable[[], object]) -> Place:
        """Join the queue. `on_grant` is called once, when the place is there; perhaps before this returns."""
        place = Place(self, on_grant)
        self._let_in(self._shares.arrive(place, tenant))
        if not place.granted:
            self._on_contention()
        return place

    def give_back(self, place: Place) -> None:
        """See `Place.release`."""
        if place.granted:
            self._let_in(self._shares.leave(place))
        else:
            self._shares.withdraw(place)

    @staticmethod
    def _let_in(places: tuple[Place, ...]) -> None:
        for place in places:
            place.granted = True
            place.on_grant()
