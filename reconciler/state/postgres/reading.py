"""Reading a schema: its head, and pages of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reconciler.core.records import Header
from reconciler.state.postgres.failures import (
    NoTable,
    damaged,
    newer_format,
    other_environment,
)
from reconciler.state.postgres.layout import FORMAT, UPGRADES
from reconciler.state.postgres.link import Arguments, Row
from reconciler.state.postgres.session import Session
from reconciler.state.postgres.statements import META
from reconciler.state.store import Clock, Holder, Lock


class SchemaOptions(NamedTuple):
    """How a state is kept in a schema. ``clock`` is ``None`` for the server's, which alone may decide about
    leases where there are several machines. ``lease`` is in seconds. ``upgrades`` lead from older formats
    to ``format``. ``kept_runs`` is how many finished runs the journal reaches back, ``kept_backups`` how
    many backups stay, ``page_size`` how many rows one statement reads."""

    environment: str
    clock: Clock | None
    lease: float
    format: int = FORMAT
    upgrades: Mapping[int, str] = UPGRADES
    kept_runs: int = 100
    kept_backups: int = 10
    page_size: int = 10_000


class Meta(NamedTuple):
    """The one row of ``meta``, and the time by the server's clock when it was read."""

    format: int
    environment: str
    lineage: str | None
    serial: int
    content: str | None
    application: str | None
    moved: str | None
    token: int
    version: int
    last_write: str | None
    lock_id: str | None
    holder: str | None
    process: str | None
    since: float | None
    expires: float | None
    now: float

    def header(self) -> Header:
        """The header of the state; empty before the first write."""
        if self.lineage is None:
            return Header()
        return Header(
            self.lineage, self.serial, environment=self.environment, application=self.application
        )

    def lock(self) -> Lock | None:
        """The lock that is held. Raises one of `UNREADABLE` for a row that this program did not write."""
        if self.lock_id is None or self.holder is None:
            return None
        user, host, pid, command, ci = json.loads(self.holder)
        holder = Holder(user, host, pid=pid, command=command, ci=ci)
        return Lock(self.lock_id, holder, since=self.since or 0.0, expires=self.expires or 0.0)


class SchemaReader:
    """Reads a schema; an absent one is an empty state."""

    def __init__(self, session: Session, options: SchemaOptions, *, place: str) -> None:
        self.session = session
        self.options = options
        self.place = place
        self._is_ours = False

    @property
    def time(self) -> float | None:
        """The time that statements take for now; ``None`` for the server's clock."""
        return self.options.clock() if self.options.clock else None

    def meta(self) -> Meta | None:
        """The row of ``meta``; ``None`` where there is no state.

        Raises StateRefused for the state of another environment, or of a newer program.
        """
        try:
            rows = self.session.rows(META, {"at": self.time})
        except NoTable:
            return None
        return self.accepted(rows)

    def present_meta(self) -> Meta:
        """The row of ``meta`` of a state that was there a moment ago."""
        meta = self.meta()
        if meta is None:
            raise NoTable(self.place)
        return meta

    def accepted(self, rows: Sequence[Row]) -> Meta:
        """The row of ``meta``, checked."""
        if len(rows) != 1:
            raise damaged(self.place)
        meta = Meta(*rows[0])
        self._refuse_newer(meta.format)
        wanted = self.options.environment
        if meta.environment != wanted:
            raise other_environment(self.place, found=meta.environment, wanted=wanted)
        self._is_ours = True
        return meta

    def page(self, text: str, arguments: Arguments) -> list[Row]:
        """The rows of a page; none where there is no state."""
        if not self._is_ours and self.meta() is None:
            return []
        try:
            rows = self.session.rows(text, arguments)
        except NoTable:
            return []
        if not rows:
            raise damaged(self.place)
        self._refuse_newer(rows[0][0])
        return [row[1:] for row in rows if row[1] is not None]

    def by_address(
        self, statements: tuple[str, str], *, since: str, until: str | None
    ) -> Iterator[Row]:
        """Rows that begin with their address, page by page."""
        text, following = statements
        last, size = since, self.options.page_size
        while True:
            rows = self.page(text, {"last": last, "until": until, "size": size})
            yield from rows
            if len(rows) < size:
                return
            text, last = following, rows[-1][0]

    def by_id(self, text: str, **arguments: Any) -> Iterator[Row]:
        """Rows that begin with their id, page by page."""
        last, size = 0, self.options.page_size
        while True:
            rows = self.page(text, {**arguments, "last": last, "size": size})
            yield from rows
            if len(rows) < size:
                return
            last = rows[-1][0]

    def _refuse_newer(self, found: int) -> None:
        if found > self.options.format:
            raise newer_format(self.place, found=found, known=self.options.format)
