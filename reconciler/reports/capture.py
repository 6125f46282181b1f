"""The sums and the text of a plan, gathered while it is made. Pure.

The text of a change depends on nothing but the change, unless a template made it. So the process that plans a
change writes its text as well: a large plan is then printed without being read again.
"""

from __future__ import annotations

from codecs import iterdecode
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Protocol

from reconciler.core.plan import Change
from reconciler.errors import ReconcileError
from reconciler.reports.plan_text import change_text
from reconciler.reports.style import Pen
from reconciler.reports.tally import Tally


class Buffer(Protocol):
    """Takes bytes and gives them back. It may raise ReconcileError."""

    def write(self, text: bytes) -> None: ...

    def parts(self) -> Iterable[bytes]:
        """All that was written, again at every call."""
        ...


class PlanCapture:
    """An `Accumulator` of the sums of a plan, and of the text of its changes."""

    def __init__(self, pen: Pen | None, buffer: Callable[[], Buffer]) -> None:
        """``pen`` writes the text; without one there is none. ``buffer`` makes an empty buffer for the text
        of a whole plan; that of a part is held in memory."""
        self.tally = Tally()
        self._pen = pen
        self._new_buffer = buffer
        self._has_text = pen is not None
        self._added: list[str] = []
        self._merged: Buffer | None = None
        """The text of the changes before those that were added."""

    def texts(self) -> Iterator[str] | None:
        """The text of all changes in parts, as `plan_text_parts` writes it; ``None`` where there is none: the
        changes of a template are shown as one, values from the environment are masked in the whole plan, or
        it could not be kept."""
        try:
            parts = () if self._merged is None else self._merged.parts()
        except ReconcileError:
            return None
        return chain(iterdecode(parts, "utf-8"), self._added) if self._has_text else None

    def add(self, change: Change) -> None:
        self.tally.add(change)
        if change.template or change.from_environment or change.was_from_environment:
            self._has_text = False
        elif self._has_text and self._pen is not None:
            self._added.append(change_text(change, self._pen))

    def empty(self) -> PlanCapture:
        return PlanCapture(self._pen, self._new_buffer)

    def merge(self, other: PlanCapture) -> None:
        self.tally.merge(other.tally)
        texts = other.texts()
        if texts is None or not self._has_text:
            self._has_text = False
            return
        try:
            self._merged = self._merged or self._new_buffer()
            for text in (*self._added, *texts):
                self._merged.write(text.encode("utf-8"))
        except ReconcileError:  # the disk is full, perhaps: the text is written from the plan then
            self._has_text = False
        self._added = []
