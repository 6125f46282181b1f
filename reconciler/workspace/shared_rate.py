"""A rate that all processes with one state share. An edge: it asks the state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from reconciler.core.options import Rate
from reconciler.errors import Refused
from reconciler.remote.turns import FASTEST, MARGIN, SLOWEST, Turns
from reconciler.state.store import Store


class SharedTurnsOfState(Turns, Protocol):
    """Turns that a state keeps."""

    def begin(self) -> bool:
        """Takes part in the rate; says whether there is a state in which it can be kept."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class SharingStore(Protocol):
    """A store that can keep a rate for all processes: a database, whose clock and locks order them."""

    def shared_turns(
        self, *, rate: float, most: float, least: float, margin: float, clock: Callable[[], float]
    ) -> SharedTurnsOfState: ...


@contextmanager
def shared_turns(store: Store, rate: Rate, *, clock: Callable[[], float]) -> Iterator[Turns | None]:
    """The turns of a rate that is shared by all processes with this state; ``None`` before the state was
    made, when nobody else can have it. ``clock`` gives monotonic seconds.

    Raises Refused for a state that can keep no rate, and for no rate.
    """
    if not isinstance(store, SharingStore) or rate.per_second is None:
        raise Refused(
            "`api.rate_shared` asks for a rate that several processes share, and this state can keep none",
            hint="Set `api.rate`, and keep the state in PostgreSQL; or remove `rate_shared` and divide the "
            "rate among the jobs by hand.",
        )
    turns = store.shared_turns(
        rate=rate.per_second,
        most=FASTEST if rate.auto else rate.per_second,
        least=SLOWEST,
        margin=MARGIN,
        clock=clock,
    )
    try:
        yield turns if turns.begin() else None
    finally:
        turns.close()
