"""The state of one environment: what every store offers, and what all stores decide alike.

Anybody may read. Writing takes the *lock*, which gives a *writer*. A *lease* says when a lock may be taken
over. The *fencing token* says who may write: each taking of the lock raises the token, and each write
compares it inside its own transaction. Every store has these obligations:

- C1: A write is durable, and visible to every later reader, when it returns. Or it raises; then it is there
  as a whole or not at all.
- C2: Writes have one total order. Those of a writer follow its lock, and nothing of another writer lies
  between them and the loss of that lock.
- C3: A writer that was overtaken or unlocked never gets a success, whatever clocks, pauses and networks do.
  (A request that is on the wire by then may still arrive at the API.)
- C4: A write whose answer was lost is applied once, however often it is repeated.
- C5: A read sees at least all that was confirmed before it began. A store that keeps a copy brings it up to
  date at its first use, at `Store.lock` and at `Store.stamp`.
- C6: Reading needs no right to write, and neither creates nor changes what is stored.
- C7: No message quotes a stored value, a credential, or the text of a server or of its library. Stores raise
  nothing but `ReconcileError`.
- C8: A store that cannot keep C1 to C4 is refused before anything is sent.

`tests/state/test_store.py` holds every store to them.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, runtime_checkable

from reconciler.commands import Command
from reconciler.core.digests import known_digest
from reconciler.core.record_codec import decode_record, encode_record
from reconciler.core.records import Export, Header, JournalEntry, Record, Run
from reconciler.core.transitions import put_back
from reconciler.errors import Message, ReconcileError, Refused, StateRefused
from reconciler.jsontext import unpacked
from reconciler.state.liveness import is_dead
from reconciler.values import canonical, shown

LEASE = 60.0
"""Seconds without a sign of life after which a lock may be taken over."""
SAFE_SHARE_OF_LEASE = 0.9
"""The part of a lease in which requests leave. The rest covers the time between the check and the packet."""
RUNS = 100
"""How many finished runs the journal reaches back."""
LAST = "\U0010ffff"
"""Greater than every address."""
LARGEST_SERIAL = 2**53
"""Greater serials are refused: not every JSON reader keeps them exactly."""

_COMPARE = Message.of(
    "Compare it with ", Command.of("state", "pull"), "; `--force` puts it in place all the same."
)

Clock = Callable[[], float]
"""Unix time in seconds. Wall-clock time, since leases are compared between machines."""
NewId = Callable[[], str]
RESTORE_HINT = Message.of(
    Command.of("state", "backups"),
    " lists the backups, and ",
    Command.of("state", "restore", "ID"),
    " puts one back. It takes the output of ",
    Command.of("state", "pull"),
    " too.",
)
"""How a backup is put back, wherever the state is."""


class Holder(NamedTuple):
    """The process that asks for the lock. ``pid`` is its number on ``host``, the machine that we run on."""

    user: str
    host: str
    pid: int
    command: str
    ci: str | None = None
    """Address or id of the run, if a CI system started us."""


class Lock(NamedTuple):
    """A lock that is held. Times are Unix seconds; past ``expires`` it may be taken over."""

    id: str
    holder: Holder
    since: float
    expires: float


OnWait = Callable[[Lock], None]
"""Is given the lock that somebody waits for. It may raise, which ends the wait."""


class Locked(Refused):
    """Somebody else is writing this state."""

    def __init__(self, lock: Lock) -> None:
        holder = lock.holder
        run = f", CI run {shown(holder.ci)}" if holder.ci else ""
        super().__init__(
            f"the state is locked by {shown(holder.user)} on {shown(holder.host)} "
            f"(process {holder.pid}{run}) since {utc_text(lock.since, '%Y-%m-%d %H:%M:%S')} UTC: "
            f"{shown(holder.command)}",
            hint=Message.of(
                "Wait until it has finished. If it is certain that it no longer runs: ",
                Command.of("state", "unlock", lock.id),
                ".",
            ),
        )
        self.lock = lock


class LockLost(Refused):
    """The lock was released, unlocked or taken over, so this writer may no longer write."""

    def __init__(self) -> None:
        super().__init__(
            "the lock on the state was lost: released, unlocked, or taken over after its lease",
            hint="Nothing was written after that. Run again; it goes on from the state.",
        )


class StateUnreachable(ReconcileError):
    """The state could not be reached. Nothing of this write or read counts."""


class CommitUnknown(ReconcileError):
    """The answer to the last write was lost, so it may have been made or not. Its writer finds out before it
    writes anything else; the next run finds the truth in the state."""


class StateMoved(Refused):
    """The state was taken to another place, and nobody writes here any more."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"this state was moved to {shown(address)}; it is not written here any more",
            hint=Message.of(
                "Name the new place in `state` of reconcile.yaml. To take the state back: ",
                Command.of("state", "migrate", "--to", "URL"),
                ", run with the new place configured.",
            ),
        )
        self.address = address


class Backup(NamedTuple):
    """A copy of a state that its store keeps."""

    id: str
    made: float
    """Unix time in seconds."""
    serial: int
    """The serial that the state had."""
    size: int | None
    """In bytes, where the store knows it."""


class Stored(NamedTuple):
    """A record as it is kept: its revision, and the canonical form of the JSON that `encode_record` gives,
    without the revision."""

    revision: int
    body: str

    def record(self) -> Record:
        """The record, decoded. Raises StateRefused where it cannot be read."""
        try:
            return decode_body(self.body, self.revision)
        except UNREADABLE:
            raise StateRefused(
                "a record in the state is not readable",
                hint=RESTORE_HINT,
            ) from None


class Writer(Protocol):
    """The right to write, for as long as the lock is held. After that, every method that writes raises
    `LockLost`."""

    def holds(self) -> bool:
        """Whether the lock is still ours as far as the clocks tell, without reading the state. It is not
        in a process that was stopped for longer than its lease."""
        ...

    def write(
        self,
        *,
        put: Iterable[Record] = (),
        remove: Iterable[str] = (),
        journal: Iterable[JournalEntry] = (),
        application: str | None = None,
    ) -> Header:
        """Write everything or nothing, durable on return. Raises the serial and renews the lease.

        A record whose content differs gets a higher revision; one whose content is the same keeps its
        revision. The revision of the argument is ignored. Revisions never repeat, not even when an
        address is removed and put again. An address both removed and put is put.
        Raises StateRefused where ``application`` is not the recorded one.
        """
        ...

    def finish(self, run: Run) -> None:
        """Add a line to the history, and drop the journal of runs before the newest hundred. The serial
        stays."""
        ...

    def replace(self, export: Export, *, force: bool = False, above: int = 0) -> Header:
        """Replace all records by those of an export. Journal and history stay.

        The export must be of this environment, and, unless the state is empty or ``force``, of the
        same lineage and application, and not older than the state. Serial and revisions do not repeat:
        see `header_after_replace`. ``above`` is a serial that the new one must exceed as well.
        """
        ...

    def renumber(self, *, above: int) -> Header:
        """Raise the serial above ``above`` and every serial that the state can have had so far, and give
        every record a new revision.

        For a state that was put back: its next serials and revisions could repeat those that were given
        after it was copied, and plans from that time would fit records that they were not made from.
        """
        ...

    def backup(self) -> str | None:
        """Make a consistent copy of the state. Returns words that tell a person where it is; ``None`` where
        there is nothing to copy.

        The copy holds what was recorded at that time, so values removed later remain in it until ten
        newer backups have pushed it out.
        """
        ...

    def restore(self, backup_id: str, *, above: int = 0) -> Header:
        """Replace all records by those of a backup, as `replace` does with ``force``, after a backup of the
        present state was made: see `put_back_from`.

        Raises Refused where there is no such backup.
        """
        ...

    def mark_moved(self, address: str | None) -> None:
        """Mark the state as moved to an address, or no longer. Once this lock is released, nobody gets
        another one, except with ``even_moved``."""
        ...

    def renew(self) -> None:
        """Extend the lease."""
        ...


class Store(Protocol):
    """One environment's state. Methods may be called from any thread.

    Each read may be a round trip to another machine, so callers read many records at once.
    """

    def header(self) -> Header:
        """``Header()`` when nothing was written yet."""
        ...

    def records(self) -> Iterator[Record]:
        """All records by address (code point order).

        Each is whole. No lock is held between pages, so a writer at work meanwhile may be seen in
        part; compare `header` before and after where that matters.
        """
        ...

    def record(self, address: str) -> Record | None: ...

    def records_of(self, addresses: Collection[str]) -> dict[str, Record]:
        """The records of some addresses, read at once. Addresses without a record are left out."""
        ...

    def stored(self, addresses: Collection[str]) -> dict[str, Stored]:
        """The same records, not decoded."""
        ...

    def known_digests(
        self, since: str = "", until: str = LAST
    ) -> Iterator[tuple[str, bytes | None]]:
        """The address of each record from ``since`` to before ``until``, by address (code point order),
        with its `reconciler.core.digests.known_digest`. Pages as `records` does."""
        ...

    def known_digests_of(self, addresses: Collection[str]) -> dict[str, bytes | None]:
        """The digests of some addresses, read at once. Addresses without a record are left out."""
        ...

    def stamp(self) -> str | None:
        """A text that changes if and only if records change: not with the lock, its renewal and its release,
        nor with the journal. No stamp comes a second time for other records, not even after a restore.
        ``None`` where the store cannot tell.
        """
        ...

    def backups(self) -> Sequence[Backup]:
        """The copies that the store keeps, newest first."""
        ...

    def restore_hint(self) -> Message:
        """How a person puts a backup back."""
        ...

    def moved_to(self) -> str | None:
        """The address to which the state was moved; see `Writer.mark_moved`."""
        ...

    def journal(self, *, run: str | None = None) -> Iterator[JournalEntry]:
        """Entries in the order of writing, of one run or of all."""
        ...

    def interrupted_addresses(self) -> Sequence[str]:
        """Addresses for which the last run has an intent and no outcome, because it was cut off; sorted."""
        ...

    def runs(self) -> Iterator[Run]:
        """The history, oldest first."""
        ...

    def lock(
        self,
        holder: Holder,
        *,
        now: Clock | None = None,
        wait: float = 0.0,
        on_wait: OnWait | None = None,
        even_moved: bool = False,
    ) -> AbstractContextManager[Writer]:
        """The lock, from entering to leaving. Raises `Locked` if somebody still has it after ``wait``
        seconds. Meanwhile ``on_wait`` is given the lock that is held, before each pause; it may raise.

        A lock whose lease ran out, or whose process on the same host is dead, is taken over.
        Raises `StateMoved` for a state that was moved, unless ``even_moved``.
        """
        ...

    def locked(self) -> Lock | None:
        """The lock that is held, if any. One whose holder died stays until somebody wants it."""
        ...

    def unlock(self, lock_id: str) -> None:
        """Take the lock away from its holder, who cannot write from then on.

        Raises Refused unless ``lock_id`` is the id of the lock that is held.
        """
        ...

    def close(self) -> None:
        """Close files. Using the store again opens them again."""
        ...


@runtime_checkable
class SchemaStore(Protocol):
    """A store that the owner of a database sets up, with rights for those who write and for those who only
    read. ``writer`` and ``reader`` are roles; ``None`` for nobody."""

    def setup_script(self, *, writer: str | None, reader: str | None) -> str:
        """All that the owner has to run, as SQL. Connects nowhere."""
        ...

    def set_up(self, *, writer: str | None, reader: str | None) -> None:
        """Make what is missing, and grant. It can be done again.

        Raises Refused where the role that is used may not.
        """
        ...


# --- records as they are kept --------------------------------------------------------------------


class EncodedRecord(NamedTuple):
    """A record as a store keeps it, without its revision."""

    body: str
    known: bytes | None
    """Its `reconciler.core.digests.known_digest`."""


UNREADABLE = (ValueError, TypeError, AttributeError, RecursionError)
"""The errors that `decode_body` raises for a body that `encode` did not give."""


def encode(records: Iterable[Record]) -> dict[str, EncodedRecord]:
    """The encoded form of each record, by address. Raises StateRefused for a value that has no JSON."""
    return {record.address: _encode(record) for record in records}


def _encode(record: Record) -> EncodedRecord:
    """Bodies are compared as text rather than as `Record`s, since ``1 == 1.0 == True`` in Python but not
    at the API."""
    try:
        record.address.encode("utf-8")
        body = canonical(encode_record(record) | {"revision": 0})
        return EncodedRecord(body, known_digest(record))
    except (TypeError, ValueError):
        raise StateRefused(
            f"the record of {shown(record.address)} holds something that cannot be stored",
            hint="Only JSON values and valid Unicode can be recorded.",
        ) from None


def decode_body(body: str, revision: int) -> Record:
    """The record of a body. Raises one of `UNREADABLE`, or StateRefused, where it is none."""
    data: dict[str, Any] = unpacked(body)
    if type(data.get("timestamp")) is float:  # an integer of more than 64 bits, read inexactly
        data = json.loads(body)
    data["revision"] = revision
    return decode_record(data)


def known_digest_of_body(body: str) -> bytes | None:
    """The `known_digest` of the record of a body; ``None`` where it cannot be read."""
    try:
        return known_digest(decode_body(body, 0))
    except (*UNREADABLE, ReconcileError):
        return None


def checksum(address: str, body: str) -> int:
    """The checksum of a row, to which its revision is added: `PRAGMA quick_check` notices a broken tree,
    but not a flipped letter in a value."""
    return zlib.crc32(f"{address}\n{body}".encode())


# --- what all stores decide alike ----------------------------------------------------------------


def new_id() -> str:
    """A random id, for a lineage or a lock."""
    return str(uuid.uuid4())


def utc_text(at: float, pattern: str) -> str:
    """A Unix time as text."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime(pattern)
    except (OverflowError, ValueError, OSError):
        return "an unknown time"


def header_after_write(
    old: Header, *, environment: str, application: str | None, new_id: NewId
) -> Header:
    """The header after one more write."""
    if application is not None and old.application not in (None, application):
        raise StateRefused(
            "the state belongs to another application than the one that answered",
            hint="Check the key and the environment: this key is for another Adapty app.",
        )
    return Header(
        lineage=old.lineage or new_id(),
        serial=old.serial + 1,
        environment=environment,
        application=application or old.application,
    )


def header_after_replace(
    old: Header,
    pushed: Header,
    *,
    environment: str,
    force: bool,
    above: int,
    now: float,
    new_id: NewId,
) -> Header:
    """The header after an export with header ``pushed`` replaced all records.

    The serial goes on by one where the export is an edited copy of the present state. Otherwise the state
    is restored: see `restored_serial`. Raises StateRefused for what `refuse_foreign` refuses.
    """
    refuse_foreign(old, pushed, environment=environment, force=force)
    serial = (
        old.serial + 1
        if is_edited_copy(old, pushed) and above <= old.serial
        else restored_serial(old.serial, pushed.serial, above, now=now)
    )
    return Header(
        lineage=pushed.lineage or old.lineage or new_id(),
        serial=serial,
        environment=environment,
        application=pushed.application or old.application,
    )


def refuse_foreign(old: Header, pushed: Header, *, environment: str, force: bool) -> None:
    """Raises StateRefused where an export may not replace the state with header ``old``."""
    if pushed.environment not in (None, environment):
        raise StateRefused(
            f"the export is of environment {shown(pushed.environment or '')}, "
            f"this state is of {shown(environment)}",
            hint="Choose the environment with `--env`.",
        )
    if not 0 <= pushed.serial < LARGEST_SERIAL:
        raise StateRefused("the export has an impossible serial", hint="Give an unedited export.")
    if force:
        return
    if old.lineage is not None and pushed.lineage != old.lineage:
        raise StateRefused(
            "the export has another lineage: it was not made from this state",
            hint=_COMPARE,
        )
    if pushed.application not in (None, old.application or pushed.application):
        raise StateRefused(
            "the export is of another application than this state",
            hint=_COMPARE,
        )
    if pushed.serial < old.serial:
        raise StateRefused(
            f"the export is older than the state: its serial is {pushed.serial}, that of the state is "
            f"{old.serial}",
            hint="Pull the state and make the change again; `--force` puts the older one in place all "
            "the same.",
        )


def is_edited_copy(old: Header, pushed: Header) -> bool:
    """Whether an export was made from the state as it is, so that its unchanged records keep their
    revisions."""
    return old.lineage is not None and (pushed.lineage, pushed.serial) == (old.lineage, old.serial)


def restored_serial(*serials: int, now: float) -> int:
    """The serial of a state that was put back, at a Unix time; also the revision of all its records.

    Nobody can say how far the serial had come after the copy was made: the state that was replaced may be
    lost, and the copy may have been restored elsewhere too. So the serial goes on from the time in
    microseconds. Writes are durable and take far longer than one, so no serial before can have reached it.
    """
    moment = int(now * 1_000_000)
    return max(*serials, moment if 0 <= moment < LARGEST_SERIAL - RUNS else 0) + 1


def is_abandoned(lock: Lock, process: str | None, *, seeker: Holder, now: float) -> bool:
    """Whether ``seeker`` may take this lock over. ``process`` is the `process_identity` of its holder, as
    it was when the holder took the lock."""
    return lock.expires <= now or (
        lock.holder.host == seeker.host and is_dead(lock.holder.pid, process)
    )


def put_back_from(writer: Writer, backup: Export, *, above: int) -> Header:
    """Replaces all records of a state by those of a backup, which was read before: the backup of the present
    state that is made first may push it out. Fields that may have been changed at the API since are marked
    (see `put_back`)."""
    writer.backup()
    records = tuple(map(put_back, backup.records))
    return writer.replace(backup._replace(records=records), force=True, above=above)


def no_backup(backup_id: str) -> Refused:
    """The error of `Writer.restore` for an id that no backup has."""
    return Refused(
        f"there is no backup {shown(backup_id)}",
        hint=Message.of("See ", Command.of("state", "backups"), "."),
    )


def not_locked() -> Refused:
    """The error of `Store.unlock` where nobody holds the lock."""
    return Refused("the state is not locked", hint="There is nothing to unlock.")


def other_lock(held: Lock) -> Refused:
    """The error of `Store.unlock` where another lock is held."""
    return Refused(
        "the state is held by another lock than the one named",
        hint=f"The lock that is held now has the id {shown(held.id)}; look who holds it first.",
    )
