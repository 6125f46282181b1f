"""Whose a profile is, in a simulation: nothing is taken that is not ours, and nothing said that is not so.

The rules compare the state, the requests and the outcomes with the remote's own history of who made which
profile. Nothing tells the makers of a profile apart at the API, so a mistake is excused where no program
could know better: a POST of ours that lands on a profile of others that has no attribute of theirs looks like
a creation, and one that lands on a profile which an earlier POST of ours made, once it has an attribute of
others, looks like an adoption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from reconciler.core.endpoints import CUSTOMER_HEADER, PROFILE_HEADER
from reconciler.core.lifetimes import seconds_of
from reconciler.core.outcomes import Outcome, Result
from reconciler.core.plan import Action, Change, Request
from reconciler.core.records import Origin, Record
from reconciler.remote.answers import ApiAnswer, CallResult, ProfileData
from reconciler.values import FieldPath, Scalar
from tests.torture.access import is_own
from tests.torture.simulated import (
    ATTRIBUTE,
    QUIET,
    Existing,
    Remote,
    SimulatedStore,
    content,
    customer_of,
    slot_of,
)

if TYPE_CHECKING:
    from tests.torture.plans import SimulatedPlan

_TOLERANCE = 3 * QUIET
"""Seconds by which the time of a creation may be wrong that the state records."""


class Ownership:
    """What is known of the makers of all profiles, by their profile ids."""

    def __init__(
        self, store: SimulatedStore, remote: Remote, *, blame: Callable[[str], None]
    ) -> None:
        self._store = store
        self._remote = remote
        self._blame = blame
        self.doubtful: set[str] = set()
        """Profiles that our POST made, of which the state cannot know: the answer was lost, or the state."""
        self.excused: set[str] = set()
        """Profiles of others that look like ours."""
        self._posted: set[str] = set()
        """Profiles of others on which a POST of ours landed."""
        self._written: dict[str, set[tuple[FieldPath, Scalar | None]]] = {}
        """The fields that requests of ours wrote to each profile, with the values."""
        self.moved: set[int] = set()
        """Profiles that other people made, linked or deleted since our last answer about them."""
        self.is_upgraded = False
        """Whether the state is of a program that kept no origins."""
        self.refuses = False
        """Whether profiles that exist and are not recorded are not to be written."""
        self._recorded_ids: dict[int, set[str | None]] = {}
        """The profile ids that the state knew when the run began; an unproven creation may be any."""
        self._looked: dict[int, str] = {}
        """The profile id that the last answer of this run was about."""
        self._protected: set[int] = set()
        """Profiles that the state was told to protect."""
        self._asked_for: set[str] = set()
        """Profiles whose deletion was asked for although they are not ours."""
        self._plan: SimulatedPlan | None = None
        self._changes: Mapping[int, Change] = {}
        self._deletions: set[int] = set()

    # --- what people do to the state -------------------------------------------------------------

    def on_state_moved(self, slot: int) -> None:
        """Somebody removed the record of a profile, or put an older one in its place."""
        self.doubtful |= {
            each.profile_id
            for each in self._remote.history.values()
            if each.made_at is not None and int(each.profile_id[24]) == slot
        }
        if not any(record.protect for record in self._store.of_slot(slot)):
            self._protected.discard(slot)

    def on_declared(self, slot: int, *, protect: bool, is_certain: bool) -> None:
        """A run recorded what a file declares besides fields; not ``is_certain`` if it may have been cut off
        before."""
        if not protect:
            self._protected.discard(slot)
        elif is_certain:
            self._protected.add(slot)

    # --- runs and requests -----------------------------------------------------------------------

    def on_start(self, plan: SimulatedPlan | None, changes: Mapping[int, Change]) -> None:
        self._plan = plan
        self._changes = changes
        self._deletions.clear()
        self._looked.clear()
        if self.refuses:
            self._recorded_ids = {
                slot: {record.profile_id for record in self._store.of_slot(slot)}
                for slot in changes
                if all(record.exists for record in self._store.of_slot(slot))
            }

    def on_answer(self, slot: int, answer: ApiAnswer) -> None:
        if answer.data is not None:
            self._looked[slot] = answer.data.profile_id

    def on_request(self, slot: int, request: Request) -> None:
        if self.refuses and request.method != "DELETE":
            self._not_refused(slot)
        if self.refuses and request.method == "POST" and not is_own(request):
            self._recorded_ids.pop(slot, None)  # what a look finds from here on may be ours
        plan = self._plan
        if request.method != "DELETE" or plan is None:
            return
        profile_id = request.headers.get(PROFILE_HEADER)
        if profile_id is None or CUSTOMER_HEADER in request.headers:
            self._blame(f"u{slot}: deleted by its customer id")
            return
        if profile_id != plan.ids.get(slot):
            self._blame(f"u{slot}: another profile is deleted than the plan was about")
        if slot in self._protected:
            self._blame(f"u{slot}: deleted, and protected")
        if plan.include_adopted:
            self._asked_for.add(profile_id)
        self._deletions.add(slot)
        if plan.most_deletions is not None and len(self._deletions) > plan.most_deletions:
            self._blame(f"u{slot}: deleted above the cap of {plan.most_deletions}")
        there = self._remote.history[profile_id]
        ttl = plan.lifetimes.get(slot)
        if (
            ttl is not None
            and there.made_at is not None
            and there.made_at + seconds_of(ttl) > plan.at + _TOLERANCE
        ):
            self._blame(f"u{slot}: swept before its time")

    def _not_refused(self, slot: int) -> None:
        profile_id = self._looked.get(slot)
        recorded = self._recorded_ids.get(slot)
        if profile_id is None or recorded is None or profile_id in recorded:
            return
        if any(each.exists and each.profile_id == profile_id for each in self._store.of_slot(slot)):
            return  # others made it just when our POST landed on it
        if self._remote.history[profile_id].made_at is None and profile_id not in self.excused:
            self._blame(f"u{slot}: written, and it was to be refused")

    def on_effect(self, slot: int, request: Request, *, answer: ApiAnswer) -> None:
        if answer.result is not CallResult.DONE or request.method == "GET":
            return
        if request.method == "DELETE":
            self._on_deleted(slot, request.headers.get(PROFILE_HEADER))
            return
        there = self._remote.profiles[slot]
        self._written.setdefault(there.profile_id, set()).update(content(request).items())
        if request.method != "POST" or is_own(request):
            return
        if there.made_at is not None:
            self.doubtful.add(there.profile_id)  # until the answer is recorded
        else:
            self._posted.add(there.profile_id)
            self.on_attributes(there)

    def on_attributes(self, there: Existing) -> None:
        """A profile has other attributes than before."""
        is_like_ours = not any(
            path.startswith(ATTRIBUTE) for path in there.not_by_us & there.values.keys()
        )
        if there.profile_id in self._posted and is_like_ours:
            self.excused.add(there.profile_id)

    def _on_deleted(self, slot: int, profile_id: str | None) -> None:
        there = self._remote.history.get(profile_id or "")
        is_ours = there is not None and (
            there.made_at is not None or there.profile_id in self.excused
        )
        if not is_ours and profile_id not in self._asked_for:
            self._blame(f"u{slot}: a profile is deleted that we did not create")

    # --- outcomes --------------------------------------------------------------------------------

    def on_applied(self, slot: int, *, request: Request | None, answer: ApiAnswer | None) -> None:
        """A change counts as made, durably."""
        change = self._changes.get(slot)
        if change is not None and change.action is not Action.DELETE and not change.protect:
            self._protected.discard(slot)
        if (
            request is not None
            and request.method == "POST"
            and not is_own(request)
            and answer is not None
            and answer.data is not None
            and not answer.unknown_before
            and not self._shows_others(answer.data)
        ):
            self.doubtful.discard(answer.data.profile_id)

    def _shows_others(self, data: ProfileData) -> bool:
        """Whether an answer shows an attribute, or a value of one, that only others can have written. The
        profile was there before the request then: an earlier POST of ours made it, or others did, and
        nothing tells which."""
        written = self._written.get(data.profile_id, set())
        return any(
            path.startswith(ATTRIBUTE) and (path, value) not in written
            for path, value in data.values.items()
        )

    def on_result(self, slot: int, result: Result) -> None:
        change = self._changes[slot]
        if result.outcome.is_applied and change.protect and result.action is not Action.DELETE:
            self._protected.add(slot)
        for wrong in self._false_words(slot, result, change=change):
            self._blame(f"u{slot}: reported {result.outcome}, and {wrong}")

    def _false_words(self, slot: int, result: Result, *, change: Change) -> list[str]:
        """What is wrong about an outcome."""
        records = self._store.of_slot(slot)
        profile_id = records[0].profile_id if records else None
        recorded = self._remote.history.get(profile_id or "")
        there = self._remote.profiles.get(slot)
        match result.outcome:
            case Outcome.CREATED if recorded is None or not self._may_be_ours(recorded.profile_id):
                return ["others made it"]
            case Outcome.ADOPTED if recorded is None or self._is_surely_ours(recorded.profile_id):
                return ["we made it"]
            case Outcome.DELETED | Outcome.ALREADY if slot in self._deletions:
                named = change.requests[0].headers.get(PROFILE_HEADER)
                if there is not None and there.profile_id == named:
                    return ["it is there"]
            case Outcome.UPDATED if change.action is not Action.UPDATE:
                return [f"the action was {change.action}"]
            case Outcome.LINKED if slot not in self.moved and (
                there is None or there.customer != customer_of(slot)
            ):
                return ["it has no customer id"]
            case Outcome.FORGOTTEN if not change.fields and records:
                return ["it is recorded"]
        return []

    def _may_be_ours(self, profile_id: str) -> bool:
        made = self._remote.history[profile_id]
        return made.made_at is not None or profile_id in self.excused

    def _is_surely_ours(self, profile_id: str) -> bool:
        made = self._remote.history[profile_id]
        return made.made_at is not None and profile_id not in self.doubtful

    # --- while the program is not running --------------------------------------------------------

    def compare(self, record: Record) -> None:
        """The origin that is recorded is the truth."""
        slot, origin, profile_id = slot_of(record.address), record.origin, record.profile_id
        if (record.created_at is None) is (origin is Origin.CREATED):
            self._blame(f"u{slot}: its origin is {origin}, created at {record.created_at}")
        if profile_id is None or profile_id not in self._remote.history:
            return
        if origin is Origin.CREATED and not self._may_be_ours(profile_id):
            self._blame(f"u{slot}: recorded as created, and others made it")
        elif origin is Origin.ADOPTED and self._is_surely_ours(profile_id):
            self._blame(f"u{slot}: recorded as adopted, and we made it")
        elif origin is Origin.UNKNOWN and record.exists and not self.is_upgraded:
            self._blame(f"u{slot}: there, and of unknown origin")

    def at_end(self, slot: int, *, include_adopted: bool) -> None:
        """What is left of a profile that no file declares, after a prune."""
        for record in self._store.of_slot(slot):
            if record.protect:
                continue
            if include_adopted or record.origin is Origin.CREATED:
                self._blame(f"u{slot}: pruned, and still recorded")
