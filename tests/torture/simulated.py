"""What a simulation is made of: declared profiles, a remote, a state, and a network, without any I/O.

The network stands where the client does, and asks the client's own functions what an attempt means. A
request may take effect before its answer, long after the call ended, or never. One that lives longer
than the quiet period is the one thing left out: nothing can be promised then. The API may enforce a lower
rate than ours, its clock may jump, and a gateway may answer in its place with what cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reconciler.authoring.declare import profile_of
from reconciler.authoring.documents import Document
from reconciler.core.contract_files import load_contract
from reconciler.core.endpoints import CUSTOMER_HEADER, PROFILE_HEADER
from reconciler.core.plan import Request
from reconciler.core.profiles import Profile
from reconciler.core.record_codec import decode_record, encode_record
from reconciler.core.records import Header, JournalEntry, JournalKind, Record, Run
from reconciler.core.transitions import put_back
from reconciler.errors import Source
from reconciler.remote import client, transport
from reconciler.remote.answers import ApiAnswer, CallResult, ProfileData
from reconciler.state.store import restored_serial
from reconciler.values import FieldPath, Scalar
from tests.torture.access import (
    GRANT,
    LEVEL,
    Grant,
    Level,
    carry_grant,
    carry_revoke,
    is_own,
    level_of_file,
    missing,
    own_answer,
    own_content,
)

if TYPE_CHECKING:
    from tests.torture.simulation import Simulation

QUIET = 4.0
"""The quiet period in seconds: short, since waiting takes turns of the engine. Other times are to
scale."""
LONGEST = QUIET - 0.001
"""The longest life of a request, from when it leaves to when it takes effect."""
HANG = 0.7
"""The time that an attempt may take, in seconds."""
PATIENCE = 20.0
"""Seconds of nothing but 429 after which a run gives up."""
LIMIT = 3
"""Custom attributes that the remote takes: two of ours, and the foreign one."""
CONTRACT = replace(load_contract(), max_attributes=LIMIT)
HEADER = Header("lineage-1", 1, "local", "app")
ATTRIBUTE = "custom_attributes."

_MEMBER = "installation_meta."
_DEVICE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

Values = Mapping[FieldPath, Scalar | None]


# --- what is declared ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spec:
    """What the files ask of one profile. ``None`` is: not mentioned; ``""``: to be absent."""

    first_name: str | None = None
    last_name: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    locale: str | None = None
    by: str = "customer"
    """Which identifiers are given: ``customer``, ``profile`` or ``both``."""
    forgets: bool = False
    """Whether ``last_name`` is listed under ``meta.forget``."""
    protect: bool = False
    ttl: str | None = None
    levels: tuple[tuple[str, str], ...] = ()
    """Access levels, in the words of `tests.torture.access.level_of_file`."""
    forgotten_levels: tuple[str, ...] = ()
    identifier: str | None = None
    preference: str | None = None


def customer_of(slot: int) -> str:
    return f"u{slot}"


def profile_id_of(slot: int, number: int) -> str:
    """The id of a profile; the one of the remote's ``number``-th making."""
    return f"00000000-0000-4000-8000-{slot}{number:011}"


def slot_of(address: str) -> int:
    """Which of the profiles an address names."""
    return int(address[32]) if address.startswith("profile:") else int(address[1:])


def slot_named(headers: Mapping[str, str]) -> int:
    """Which of the profiles the headers of a request name."""
    customer = headers.get(CUSTOMER_HEADER)
    return int(customer[1:]) if customer else int(headers[PROFILE_HEADER][24])


_ADDRESSES = [(customer_of(slot), f"profile:{profile_id_of(slot, 0)}") for slot in range(10)]
_profiles: dict[tuple[int, Spec], Profile] = {}
_contents: dict[int, tuple[object, Values]] = {}
"""What is made once, since few things differ from one schedule to the next."""


def declared(slot: int, spec: Spec) -> Profile:
    """The profile that a file with such a content declares."""
    profile = _profiles.get((slot, spec))
    if profile is None:
        document = Document(_document(slot, spec), Source("profiles/a.yaml", 1, 1), {})
        profile = _profiles[slot, spec] = profile_of(document, CONTRACT)
    return profile


def _document(slot: int, spec: Spec) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if spec.by != "profile":
        document["customer_user_id"] = customer_of(slot)
    if spec.by != "customer":
        document["profile_id"] = profile_id_of(slot, 0)
    for name in ("first_name", "last_name"):
        value = getattr(spec, name)
        if value is not None:
            document[name] = value or None
    if spec.attributes:
        document["custom_attributes"] = dict(spec.attributes)
    if spec.locale is not None:
        document["installation_meta"] = {"device_id": _DEVICE, "locale": spec.locale}
    if spec.levels:
        document["access_levels"] = {level: level_of_file(text) for level, text in spec.levels}
    if spec.identifier is not None:
        document["integrations"] = {"amplitude_user_id": spec.identifier or None}
    if spec.preference is not None:
        document["refund_saver"] = {"preference": spec.preference or None}
    meta: dict[str, Any] = {}
    forget = ["last_name"] if spec.forgets else []
    forget += [LEVEL + level for level in spec.forgotten_levels]
    if forget:
        meta["forget"] = forget
    if spec.protect:
        meta["protect"] = True
    if spec.ttl is not None:
        meta["ttl"] = spec.ttl
    if meta:
        document["meta"] = meta
    return document


def content(request: Request) -> Values:
    """What a request writes, by field path; ``None`` for what it clears."""
    body: Any = request.body
    if not body:
        return {}
    known = _contents.get(id(body))
    if known is not None:
        return known[1]
    values: dict[FieldPath, Scalar | None] = {}
    if is_own(request):
        values |= own_content(request)
        body_of_profile: Any = {}
    else:
        body_of_profile = body
    for name, value in body_of_profile.items():
        if name == "custom_attributes":
            values |= {ATTRIBUTE + item["key"]: item["value"] for item in value}
        elif name == "installation_meta":
            values |= {_MEMBER + member: each or None for member, each in value.items()}
        else:
            values[name] = value
    _contents[id(body)] = (body, values)
    return values


def forget() -> None:
    """Lets go of the bodies of requests that were seen so far."""
    _contents.clear()


# --- the remote ----------------------------------------------------------------------------------


class Existing:
    """A profile at the remote."""

    __slots__ = ("customer", "levels", "made_at", "not_by_us", "profile_id", "values")

    def __init__(self, profile_id: str, customer: str | None, made_at: float | None) -> None:
        self.profile_id = profile_id
        self.customer = customer
        self.made_at = made_at
        """The time at which our POST made it, by our clock; ``None`` if others made it."""
        self.values: dict[FieldPath, Scalar] = {}
        """Levels as answers show them."""
        self.levels: dict[FieldPath, Level] = {}
        self.not_by_us: set[FieldPath] = set()
        """Fields that other people wrote last."""


_INVALID = ApiAnswer(CallResult.REFUSED, status=400, error_code="invalid", message="invalid")
_DELETED = ApiAnswer(CallResult.DONE, status=204)


class Remote:
    """The API's profiles, one for each slot at most. ``clock`` gives how many milliseconds the API's clock
    is ahead when it answers, ``now`` our own time."""

    def __init__(self, clock: Callable[[], int], now: Callable[[], float]) -> None:
        self.profiles: dict[int, Existing] = {}
        self.history: dict[str, Existing] = {}
        """All profiles that there ever were, by profile id."""
        self._clock = clock
        self._now = now
        self._made: dict[int, int] = {}
        self._carried = 0
        self.last_grant: Grant | None = None
        """The last grant that was carried out."""

    def make(self, slot: int, customer: str | None, *, made_at: float | None = None) -> Existing:
        """A profile with an id that no other one had."""
        number = self._made.get(slot, 0)
        self._made[slot] = number + 1
        made = Existing(profile_id_of(slot, number), customer, made_at)
        self.profiles[slot] = self.history[made.profile_id] = made
        return made

    def carry(self, request: Request) -> ApiAnswer:
        """Carries a request out, or refuses it."""
        customer = request.headers.get(CUSTOMER_HEADER)
        profile_id = request.headers.get(PROFILE_HEADER)
        method, slot = request.method, slot_named(request.headers)
        found = self.profiles.get(slot)
        if found is not None and (
            found.profile_id != profile_id if profile_id else found.customer != customer
        ):
            found = None
        if is_own(request):
            if found is None:
                return missing(request)
            return self._carry_own(request, found)
        if method == "POST":
            if found is None:
                if profile_id or slot in self.profiles:
                    return missing(request)
                found = self.make(slot, customer, made_at=self._now())
            elif customer and found.customer not in (None, customer):
                return _INVALID
        elif found is None:
            return missing(request)
        elif method == "DELETE":
            del self.profiles[slot]
            return _DELETED
        written = content(request)
        if written:
            merged: Values = {**found.values, **written}
            values = {path: value for path, value in merged.items() if value is not None}
            if sum(1 for path in values if path.startswith(ATTRIBUTE)) > LIMIT:
                return _INVALID
            found.values = values
            found.not_by_us.difference_update(written)
        if method == "POST" and customer:
            found.customer = customer
        return self._shown(found)

    def _carry_own(self, request: Request, found: Existing) -> ApiAnswer:
        """Carries out a request about something that belongs to a profile."""
        path = next(iter(content(request)), None)
        if path is not None and path.startswith(LEVEL):
            if request.path == GRANT:
                self.last_grant = carry_grant(request, found.levels, now=self._now())
            elif refusal := carry_revoke(request, found.levels, now=self._now()):
                return refusal
            found.values[path] = found.levels[path].shown
            found.not_by_us.discard(path)
            return self._shown(found)
        if path is not None:
            value = content(request)[path]
            if value is None:
                found.values.pop(path, None)
            else:
                found.values[path] = value
        own = own_answer(request, found.values)
        return ApiAnswer(CallResult.DONE, status=200, own=own)

    def _shown(self, found: Existing) -> ApiAnswer:
        """The answer that shows a profile."""
        self._carried += 1
        seen: Any = {
            path: value
            for path, value in found.values.items()
            if path.startswith((ATTRIBUTE, LEVEL))
        }
        return ApiAnswer(
            CallResult.DONE,
            status=200,
            data=ProfileData(
                "app",
                found.profile_id,
                found.customer,
                int(self._now() * 1000) + self._carried + self._clock(),
                seen,
            ),
        )


# --- the state -----------------------------------------------------------------------------------


class SimulatedStore:
    """As much of a state, and of its writer, as the applier uses; in memory, and without copying. Every
    write is two steps of the world: one before and one after it takes effect."""

    def __init__(self, world: Simulation) -> None:
        self._world = world
        self._records: dict[str, Record] = {}
        self._serial = 0
        self._lineages = 1
        self._entries: list[JournalEntry] = []
        self._finished: set[str] = set()

    def of_slot(self, slot: int) -> list[Record]:
        """The records of a profile, which should be one at most."""
        records = self._records
        return [records[address] for address in _ADDRESSES[slot] if address in records]

    # --- as a store ------------------------------------------------------------------------------

    def header(self) -> Header:
        return HEADER._replace(lineage=f"lineage-{self._lineages}") if self._serial else Header()

    def records(self) -> Iterator[Record]:
        return iter(list(self._records.values()))

    def record(self, address: str) -> Record | None:
        return self._records.get(address)

    def records_of(self, addresses: Collection[str]) -> dict[str, Record]:
        records = self._records
        return {address: records[address] for address in addresses if address in records}

    def interrupted_addresses(self) -> Sequence[str]:
        if not self._entries or self._entries[-1].run in self._finished:
            return []
        run = self._entries[-1].run
        kinds: dict[str, JournalKind] = {}
        for entry in reversed(self._entries):
            if entry.run != run:
                break
            kinds.setdefault(entry.address, entry.kind)
        return sorted(address for address, kind in kinds.items() if kind is JournalKind.INTENT)

    # --- as a writer -----------------------------------------------------------------------------

    def write(
        self,
        *,
        put: Iterable[Record] = (),
        remove: Iterable[str] = (),
        journal: Iterable[JournalEntry] = (),
        application: str | None = None,
    ) -> Header:
        changed, removed, entries = list(put), list(remove), list(journal)
        self._world.step(writing=True)
        records = self._records
        serial = self._serial = self._serial + 1
        for address in removed:
            if address in records:
                self._world.oracle.on_removal(records[address], put=changed)
            records.pop(address, None)
        for record in changed:
            old = records.get(record.address)
            if old is None:
                records[record.address] = record._replace(revision=serial)
            elif not _says_the_same(record, old):
                records[record.address] = record._replace(revision=old.revision + 1)
        self._entries += entries
        if self._world.trace is not None:
            for record in changed:
                self._world.note(f"  put {_shown(records[record.address])}")
            for address in removed:
                self._world.note(f"  remove {address}")
            for entry in entries:
                self._world.note(f"  {entry.kind} {entry.address}")
        self._world.oracle.on_commit(entries)
        self._world.step(writing=True)
        return HEADER

    def finish(self, run: Run) -> None:
        self._world.step(writing=True)
        self._finished.add(run.run)
        self._world.step(writing=True)

    def renew(self) -> None:
        self._world.step(writing=True)

    # --- by hand ---------------------------------------------------------------------------------

    def copied(self) -> dict[str, Record]:
        """The records, for a backup."""
        return dict(self._records)

    def remove(self, address: str) -> None:
        """``state rm``."""
        self._serial += 1
        del self._records[address]

    def restore(self, backup: Mapping[str, Record]) -> None:
        """``state restore``: no revision repeats."""
        serial = self._serial = restored_serial(self._serial, now=self._world.wall())
        self._records = {
            address: self._renumbered(record, serial) for address, record in backup.items()
        }

    def _renumbered(self, record: Record, serial: int) -> Record:
        return put_back(record)._replace(revision=serial)

    def begin_anew(self) -> None:
        """The state is lost; ``state new``."""
        self._records = {}
        self._entries = []
        self._lineages += 1
        self._serial = 1

    def upgrade(self) -> None:
        """The state is of a program from before origins were kept, and its format is upgraded."""
        for address, record in self._records.items():
            data = dict(encode_record(record))
            data.pop("origin", None)
            self._records[address] = decode_record(data)


def _says_the_same(record: Record, old: Record) -> bool:
    return (
        record.facts == old.facts
        and record.unknown_at == old.unknown_at
        and record._replace(revision=old.revision) == old
    )


def _shown(record: Record) -> str:
    facts = ", ".join(
        f"{path} {fact.known} {fact.value}" + (f" -> {fact.attempt}" if fact.attempt else "")
        for path, fact in record.facts.items()
    )
    return (
        f"{record.address} r{record.revision} {record.profile_id or ''} {record.presence}"
        f"{' deleting' if record.deleting else ''} {{{facts}}} "
        f"mark {record.unknown_at} {dict(record.unknown_write)}"
    )


# --- the network ---------------------------------------------------------------------------------


class _Call:
    """A call of the client: one attempt or more."""

    __slots__ = ("attempts", "hangs", "is_limited", "over", "request", "slot", "ticket", "unknown")

    def __init__(self, ticket: int, *, slot: int, request: Request) -> None:
        self.ticket = ticket
        self.slot = slot
        self.request = request
        self.attempts = 0
        self.hangs = 0
        """Attempts that were abandoned because they hung."""
        self.is_limited = False
        """Whether the last attempt was answered with 429."""
        self.unknown = False
        """Whether an attempt ended so."""
        self.over = False
        """Whether nobody waits for it any more."""


_NOT_SENT = ApiAnswer(CallResult.NOT_SENT, message="connection refused")
_STOPPED = ApiAnswer(CallResult.NOT_SENT, message="stopped before it was sent", attempts=0)
_LOST = ApiAnswer(CallResult.UNKNOWN, message="no complete answer within the deadline")
_ODD = ApiAnswer(CallResult.UNKNOWN, status=200, message="a body that is not a profile")
_BROKEN = ApiAnswer(CallResult.UNKNOWN, status=503, message="unavailable")
_LIMITED = ApiAnswer(CallResult.REFUSED, status=429, error_code="rate_limited", message="slower")
_UNAUTHORISED = ApiAnswer(
    CallResult.REFUSED, status=401, error_code="not_authenticated", message="key"
)
_UNREADABLE = tuple(
    ApiAnswer(CallResult.REFUSED, status=status, message="unreadable", is_legible=False)
    for status in (400, 404, 404)
)
_UNREADABLE_KEY = ApiAnswer(CallResult.REFUSED, status=401, message="unreadable", is_legible=False)
_LAST_TRY = 4
_TURNS = (0.3, 0.5, 1.0)
"""Seconds until the turn of a request that was limited."""
_MOST_HANGS = 3
"""Attempts that hang within the deadline of a call."""


class Network:
    """Calls under way (`reconciler.remote.engine.Calls`), ending as those of the client do."""

    def __init__(self, world: Simulation) -> None:
        self._world = world
        self._calls: list[_Call] = []
        self._answers: list[tuple[_Call, ApiAnswer]] = []
        self.landing: dict[int, int] = {}
        """How many writes of a profile are under way that a deletion must not overtake: all but DELETEs."""
        self.accepted: list[float] = []
        """When the API took requests under a rate limit."""
        self.limited_since: float | None = None
        """The first 429 since the last answer of another kind."""
        self.late = 0
        """Effects that nobody waited for any more."""

    def _land(self, seconds: float, call: _Call, wait: float, lost: ApiAnswer | None) -> None:
        """Lets a request take effect after some seconds."""
        if call.request.method in ("PATCH", "POST"):
            self.landing[call.slot] = self.landing.get(call.slot, 0) + 1
        self._world.after(seconds, self._carry, call, wait, lost)

    def begin(self, ticket: int, request: Request) -> None:
        world = self._world
        world.step()
        call = _Call(ticket, slot=slot_named(request.headers), request=request)
        if world.trace is not None:
            world.note(f"begin {request.method} u{call.slot} {dict(content(request))}")
        world.oracle.on_request(call.slot, request)
        self._calls.append(call)
        hold = world.choice(world.temper.holds) if world.storm else 0.0
        if hold:
            world.after(hold, self._leave, call)
        else:
            self._leave(call)
        world.step()

    def poll(self, timeout: float) -> Sequence[tuple[int, ApiAnswer]]:
        world = self._world
        world.step()
        if not self._answers:
            world.pass_time(timeout, until=self._answers)
        answers, self._answers = self._answers, []
        out = []
        for call, answer in answers:
            if world.trace is not None:
                before = " after an unknown one" if answer.unknown_before else ""
                world.note(f"answer u{call.slot} {answer.result} {answer.message}{before}")
            world.oracle.on_answer(call.slot, call.request, answer=answer)
            out.append((call.ticket, answer))
        world.step()
        return out

    def dies(self) -> None:
        """The process is gone: what left takes its course, and nobody hears of it."""
        for call in self._calls:
            call.over = True
        self._calls.clear()
        self._answers.clear()
        self.limited_since = None

    def cut(self) -> None:
        """The client gives up what is under way, some time after the wish to stop."""
        for call in self._calls:
            if not call.over:
                self._tell(call, _LOST if call.attempts else _STOPPED)

    # --- one attempt -----------------------------------------------------------------------------

    def _leave(self, call: _Call) -> None:
        world = self._world
        if call.over:
            return
        if world.stopped or world.given_up:
            last = _LIMITED if call.is_limited else _STOPPED
            self._tell(call, _LOST if call.unknown else last)
            return
        if call.unknown and call.request.method == "POST":
            world.oracle.blame(f"u{call.slot}: POST again by the client, without a look")
        call.attempts += 1
        random, choice, after, temper = world.random, world.choice, world.after, world.temper
        if world.is_over_limit():
            after(choice(temper.soon), self._tell, call, _LIMITED)
            return
        if random() >= world.storm:
            self._land(choice(temper.soon), call, choice(temper.soon), None)
            return
        if call.request.method == "DELETE" and not transport.has_own_connection(call.request):
            after(choice(temper.soon), self._tell, call, _DELETED)  # a stray 204 was there before
            return
        fate = random()
        if fate < 0.12:
            after(choice(temper.soon), self._tell, call, _NOT_SENT)
        elif fate < 0.20:
            after(choice(temper.soon), self._tell, call, _LIMITED)
        elif fate < 0.24:
            after(choice(temper.soon), self._tell, call, _INVALID)
        elif fate < 0.29:
            after(choice(temper.soon), self._tell, call, choice(_UNREADABLE))
        elif fate < 0.30:
            refusal = choice((_UNAUTHORISED, _UNREADABLE_KEY))
            after(choice(temper.soon), self._tell, call, refusal)
        elif fate < 0.42:
            call.hangs += 1
            self._lose(call, _LOST, HANG)
        else:
            answer = _LOST if fate < 0.8 else _BROKEN if fate < 0.95 else _ODD
            self._lose(call, answer, choice(temper.late))

    def _lose(self, call: _Call, answer: ApiAnswer, wait: float) -> None:
        """After ``wait`` the sender is told ``answer``; the request takes effect by then, later, or never."""
        world = self._world
        kind = world.random()
        if kind < 0.25:
            pass  # it never takes effect
        elif kind < 0.5:
            self._land(world.choice(world.temper.soon), call, 0.0, answer)
        else:
            life = LONGEST if kind < 0.7 else wait + world.random() * (LONGEST - wait)
            self._land(life, call, 0.0, answer)
        world.after(wait, self._tell, call, answer)

    def _carry(self, call: _Call, wait: float, lost: ApiAnswer | None) -> None:
        """A request takes effect; ``lost`` is what its sender is told instead of the answer."""
        world = self._world
        answer = world.remote.carry(call.request)
        if call.request.method in ("PATCH", "POST"):
            self.landing[call.slot] -= 1
        self.late += call.over
        if world.trace is not None:
            late = " late" if call.over else ""
            world.note(f"effect{late} {call.request.method} u{call.slot}: {answer.status}")
        world.oracle.on_effect(call.slot, call.request, answer=answer, late=call.over)
        if lost is None:
            if answer.is_missing and world.random() < world.storm / 4:
                answer = answer._replace(error_code=None, is_legible=False)
            world.after(wait, self._tell, call, answer)

    def _tell(self, call: _Call, answer: ApiAnswer) -> None:
        """An attempt ended: another one, or the end of the call, as the client decides."""
        if call.over:
            return
        world, method = self._world, call.request.method
        if call.unknown and method == "DELETE" and answer.is_missing:
            answer = _DELETED
        call.unknown = call.unknown or answer.result is CallResult.UNKNOWN
        stopped = world.stopped or world.given_up
        if self._waits_again(call, answer) and not stopped:
            world.after(world.choice(_TURNS), self._leave, call)
            return
        again = client.may_be_repeated(call.request, answer) and answer.status != 429
        hung = answer is _LOST and 0 < call.hangs < _MOST_HANGS
        if again and call.attempts < _LAST_TRY and not stopped and (hung or world.random() < 0.6):
            world.after(world.choice(world.temper.late), self._leave, call)
            return
        call.over = True
        self._answers.append((call, client.after_unknown(answer) if call.unknown else answer))

    def _waits_again(self, call: _Call, answer: ApiAnswer) -> bool:
        """Whether a request was limited, and waits for its turn again: that takes no try. The run gives up
        after `PATIENCE` seconds in which the API said nothing else."""
        world = self._world
        call.is_limited = answer.status == 429
        if not call.is_limited:
            if answer.status is not None:
                self.limited_since = None
            return False
        call.attempts -= 1
        if self.limited_since is None:
            self.limited_since = world.now
        if world.now - self.limited_since > PATIENCE:
            world.lose_patience()
        return True
