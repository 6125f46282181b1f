"""What must hold of access levels in a simulation: no grant where one was given already, no purchase cut off,
no revoke of what no answer has shown, and in the end the access that the files ask for.

Access is compared over time, by the instants at which it begins and ends; those differ that are more than
`_TOLERANCE` apart.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from reconciler.core.plan import Change, Request
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.values import FieldPath, Scalar
from tests.torture.access import (
    GRANT,
    LEVEL,
    REVOKE,
    STORE,
    Grant,
    Level,
    asked_of,
    is_own,
    level_of,
    level_of_text,
    own_content,
)

if TYPE_CHECKING:
    from tests.torture.plans import SimulatedPlan
    from tests.torture.simulated import Remote, SimulatedStore

_TOLERANCE = 1.5
"""Seconds: one by which instants are the same (adapty-api 8.4), and half of one for rounding."""

_SURELY = 0.4
"""Seconds within which instants are the same however they are rounded."""


class AccessRules:
    """What is known of the levels of all profiles."""

    def __init__(
        self,
        store: SimulatedStore,
        remote: Remote,
        *,
        blame: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._remote = remote
        self._blame = blame
        self._now = now
        self.calm_since = 0.0
        """The beginning of the last runs."""
        self._existing: set[int] = set()
        """Profiles of which the last answer said that they exist."""
        self._shown: dict[int, dict[FieldPath, list[str]]] = {}
        """All that answers ever showed of the levels of a profile, the last one last."""
        self._open: dict[int, set[FieldPath]] = {}
        """Grants of unknown outcome after which no answer showed the profile."""
        self._declared: Mapping[int, Collection[str]] = {}
        self._granted: set[tuple[int, FieldPath]] = set()
        """Levels that our grants may have given, as far as a state can tell: an intent may outlive a kill
        without its request."""
        self._moment = 0
        """Counts what happens."""
        self._written_at: dict[tuple[int, FieldPath], int] = {}
        """When other people wrote levels."""
        self._effects: dict[int, int] = {}
        """When the request of each profile took effect."""
        self._recorded_at: dict[int, int] = {}
        """When each profile was as the state knows it, at least."""
        self._looked_at: dict[int, int] = {}
        """When, in this run, the profile was as the last answer showed it."""
        self._revokes: dict[int, tuple[Request, int]] = {}
        """Revokes that left, with the time of the last look before."""
        self._begun: dict[int, tuple[Request, float, bool, int]] = {}
        """Grants that left: when, whether the file asked for a span, and when the profile was as it was known
        to be."""

    def on_others(self, slot: int, path: FieldPath) -> None:
        """Other people wrote a level."""
        self._moment += 1
        self._written_at[slot, path] = self._moment

    def on_state_moved(self, slot: int) -> None:
        """Somebody changed what the state says of a profile, once nothing could land any more."""
        self._open.pop(slot, None)
        self.on_replaced(slot)

    def on_start(self, plan: SimulatedPlan | None) -> None:
        """A run of a plan begins, or one that only reads."""
        self._looked_at.clear()
        self._declared = plan.declared if plan is not None else {}

    def on_replaced(self, slot: int) -> None:
        """Other people took a profile away, or put one there; or nothing is known of it any more."""
        there = self._remote.profiles.get(slot)
        for path in {*self._shown.get(slot, ()), *(there.levels if there is not None else ())}:
            self.on_others(slot, path)

    # --- requests --------------------------------------------------------------------------------

    def on_request(self, slot: int, request: Request, *, change: Change | None) -> None:
        if not is_own(request) or request.method == "GET":
            return
        is_recorded = any(record.exists for record in self._store.of_slot(slot))
        if slot not in self._existing and not is_recorded:
            self._blame(f"u{slot}: written before its profile is known to exist")
        if request.path not in (GRANT, REVOKE):
            return
        (path,) = own_content(request)
        texts = self._shown.get(slot, {}).get(path, [])
        if request.path == REVOKE:
            if not any(_lasts(text, self._now()) for text in texts):
                self._blame(f"u{slot}: {path} revoked, and no answer has shown it active")
            elif texts[-1].endswith(STORE):
                self._blame(f"u{slot}: {path} revoked, and it was shown as bought")
            is_declared = path in self._declared.get(slot, ())
            if not is_declared and (slot, path) not in self._granted:
                self._blame(f"u{slot}: {path} revoked, and neither ours nor declared")
            self._revokes[id(request)] = (request, self._looked_at.get(slot, 0))
            return
        self._granted.add((slot, path))
        end = asked_of(request.body or {}).end
        if end is not None and end <= self._now() - _TOLERANCE:
            self._blame(f"u{slot}: {path} granted until a time that has passed")
        if path in self._open.get(slot, ()):
            self._blame(f"u{slot}: {path} granted again without a look")
        fields = change.fields if change is not None else ()
        wanted = next((field.after for field in fields if field.path == path), None)
        is_span = str(wanted).startswith("for ")
        known_at = max(self._looked_at.get(slot, 0), self._recorded_at.get(slot, 0))
        self._begun[id(request)] = (request, self._now(), is_span, known_at)

    def on_effect(self, slot: int, request: Request, *, answer: ApiAnswer) -> None:
        self._moment += 1
        self._effects[slot] = self._moment
        if answer.result is not CallResult.DONE:
            return
        if request.path == GRANT and self._remote.last_grant is not None:
            self._on_grant(slot, request, self._remote.last_grant)
        elif request.path == REVOKE:
            (path,) = own_content(request)
            there = self._remote.profiles[slot].levels[path]
            _, looked_at = self._revokes[id(request)]
            if there.store and (
                self._written_at.get((slot, path), 0) <= looked_at or looked_at == 0
            ):
                self._blame(f"u{slot}: {path} was bought, and is cut off")

    def _on_grant(self, slot: int, request: Request, grant: Grant) -> None:
        before, now = grant.before, self._now()
        begun = self._begun.get(id(request))
        if before is None or begun is None:
            return
        _, at, is_span, known_at = begun
        if self._written_at.get((slot, grant.path), 0) > known_at:
            return  # nobody could know
        after = self._remote.profiles[slot].levels[grant.path]
        lasts = before.is_active(now) and not before.is_over(now + _TOLERANCE)
        if before.store and lasts and not after.is_active(now + _TOLERANCE):
            self._blame(f"u{slot}: {grant.path} was bought, and is cut off by a grant")
        gives_nothing = (
            before.is_active(at) and before.is_active(now + _TOLERANCE)
            if is_span
            else not before.is_over(now)
            and same_access(before, after, now=now, tolerance=_SURELY)
            and same_access(before, after, now=at, tolerance=_SURELY)
        )
        if gives_nothing:
            self._blame(f"u{slot}: {grant.path} granted twice: it was {before.shown} already")

    def is_void(self, request: Request) -> bool:
        """Whether a request is a grant until a time that has passed: it says nothing of the level."""
        return request.path == GRANT and asked_of(request.body or {}).is_over(self._now())

    def on_answer(self, slot: int, request: Request, *, answer: ApiAnswer) -> None:
        if answer.is_missing or request.method == "DELETE":
            self._existing.discard(slot)
        if request.path == GRANT and answer.result is CallResult.UNKNOWN:
            self._open.setdefault(slot, set()).update(own_content(request))
        if answer.data is None:
            return
        self._existing.add(slot)
        self._looked_at[slot] = self._effects[slot]
        self._open.pop(slot, None)
        for path, value in answer.data.values.items():
            if path.startswith(LEVEL):
                texts = self._shown.setdefault(slot, {}).setdefault(path, [])
                if str(value) not in texts[-1:]:
                    texts.append(str(value))

    def on_intent(self, slot: int, *, change: Change) -> None:
        """The intent of a request became durable: the record may call those levels ours that the change
        grants."""
        asked = {level_of(request) for request in change.requests if request.path == GRANT}
        for record in self._store.of_slot(slot):
            self._granted |= {(slot, path) for path in asked & record.granted}

    def on_recorded(self, slot: int) -> None:
        """An outcome became durable."""
        if slot in self._looked_at:
            self._recorded_at[slot] = self._looked_at[slot]

    def on_lost(self, slot: int, request: Request) -> None:
        """A run ended before the answer to a request."""
        if request.path == GRANT:
            self._open.setdefault(slot, set()).update(own_content(request))

    # --- the end ---------------------------------------------------------------------------------

    def as_desired(self, slot: int, path: FieldPath, *, wanted: Scalar | None) -> None:
        """A level that a file declares gives the access that the file asks for."""
        there = self._remote.profiles[slot].levels.get(path)
        now = self._now()
        if wanted is None:
            if there is not None and not there.is_over(now + _TOLERANCE):
                self._blame(f"u{slot}: {path} is {there.shown}, and is to be over")
            return
        text = str(wanted)
        if text.startswith("for "):
            if there is None or not there.is_active(min(now, (there.end or now) - 1e-6)):
                self._blame(f"u{slot}: {path} is {there and there.shown}, {text} is desired")
            elif there.end is not None and there.end < self.calm_since:
                self._blame(f"u{slot}: {path} ran out before, {text} is desired")
            return
        asked = level_of_text(text)
        if asked.is_over(now + _TOLERANCE):
            return  # it asks for nothing any more
        if there is None or not same_access(there, asked, now=now):
            self._blame(f"u{slot}: {path} is {there and there.shown}, {text} is desired")

    def is_same(self, slot: int, path: FieldPath, recorded: Scalar | None) -> bool:
        """Whether neither a level nor what is recorded of it gives access any more."""
        now = self._now() + _TOLERANCE
        return self.is_over(slot, path) and (
            recorded is None or level_of_text(str(recorded)).is_over(now)
        )

    def is_over(self, slot: int, path: FieldPath) -> bool:
        """Whether a level gives no access any more."""
        there = self._remote.profiles[slot].levels.get(path)
        return there is None or there.is_over(self._now() + _TOLERANCE)

    def is_ours(self, slot: int, path: FieldPath) -> bool:
        """Whether a level may be of a grant of ours, and nobody has bought it."""
        there = self._remote.profiles[slot].levels.get(path)
        return (slot, path) in self._granted and there is not None and not there.store


def same_access(one: Level, other: Level, *, now: float, tolerance: float = _TOLERANCE) -> bool:
    """Whether two levels give the same access from now on."""
    starts = [max(each.start or 0.0, now) for each in (one, other)]
    if abs(starts[0] - starts[1]) > tolerance:
        return False
    if one.end is None or other.end is None:
        return one.end is other.end
    return abs(one.end - other.end) <= tolerance


def _lasts(text: str, now: float) -> bool:
    level = level_of_text(text)
    return level.end is None or level.end > now - _TOLERANCE


def run_out(change: Change, levels: Mapping[FieldPath, Level], *, now: float) -> bool:
    """Whether a change does nothing but grant again what ran out by the clock."""
    return bool(change.fields) and all(
        str(field.after).startswith("for ")
        and (level := levels.get(field.path)) is not None
        and level.is_over(now + _TOLERANCE)
        for field in change.fields
    )
