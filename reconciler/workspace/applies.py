"""Applying a plan: under the lock of the state, over one connection to the API."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from reconciler.config.settings import Config, Environment
from reconciler.core.options import Rate
from reconciler.core.outcomes import ApplyReport, Outcome, Progress, Result
from reconciler.core.plan import Action, Plan
from reconciler.core.profiles import Profile
from reconciler.core.records import by_address
from reconciler.remote.applier import Applier, check_plan
from reconciler.remote.context import ApplyContext, ApplyListener, Gate, RunClock
from reconciler.remote.engine import StateWriteFailed
from reconciler.workspace.connection import ApiCalls, Connection, no_calls
from reconciler.workspace.holder import run_starter
from reconciler.workspace.plans import sending_of, target_of
from reconciler.workspace.sources import Sources
from reconciler.workspace.state_admin import StateAdmin
from reconciler.workspace.uncommitted import refuse_uncommitted


class Applies:
    """Applies plans to one environment."""

    def __init__(
        self,
        config: Config,
        environment: Environment,
        *,
        sources: Sources,
        state: StateAdmin,
        connection: Connection,
        now: Callable[[], float],
        stop: Callable[[], bool],
    ) -> None:
        self._config = config
        self._environment = environment
        self._target = target_of(environment, config.root)
        self._sources = sources
        self._state = state
        self._connection = connection
        self._now = now
        self._stop = stop

    def check(self, plan: Plan, *, max_changes: int | None) -> None:
        """Whether a plan may be applied here at all; ``max_changes`` overrides the configured limit.

        Raises Refused for another environment, target, lineage or application, above a cap, and for a prune
        that needs a commit; InputError where the key is missing.
        """
        check_plan(
            plan,
            self._state.store.header(),
            environment=self._environment.name,
            target=self._target,
            max_changes=self._environment.max_changes if max_changes is None else max_changes,
        )
        refuse_uncommitted(plan, self._config, environment=self._environment)
        if plan.summary["requests"]:
            self._connection.require_key()

    def apply(
        self,
        plan: Plan,
        *,
        max_changes: int | None,
        rate: Rate | None,
        parallelism: int | None,
        profiles: Iterable[Profile] | None,
        on_result: Callable[[Result], None],
        on_progress: Callable[[Progress], None],
        on_backup: Callable[[str], None] | None = None,
    ) -> ApplyReport:
        """Applies a plan. `Workspace.apply` says what the arguments are, and what is raised."""
        self.check(plan, max_changes=max_changes)
        if profiles is None:
            profiles = self._sources.validate().profiles
        desired = {profile.address: profile for profile in profiles}
        if plan.is_empty and not self._is_metadata_changed(profiles):
            return ApplyReport(run="", counts=dict.fromkeys(Outcome, 0))
        with ExitStack() as stack:
            sends = any(change.requests for change in plan.changes)
            if sends:
                self._connection.require_key()  # before the lock makes a state
            writer = stack.enter_context(self._state.locked("apply"))
            api = stack.enter_context(
                self._connection.calls(rate=rate, parallelism=parallelism, may_leave=writer.holds)
                if sends
                else no_calls()
            )
            self.check(plan, max_changes=max_changes)
            if on_backup is not None and plan.summary[Action.DELETE]:
                backup = writer.backup()
                if backup is not None:
                    on_backup(backup)
            context = self._context(api, on_result=on_result, on_progress=on_progress)
            try:
                report = Applier(self._state.store, writer, context=context).apply(
                    plan, desired=desired
                )
            except StateWriteFailed as problem:
                self._save_outcomes(problem)
                raise
            return report._replace(rate=api.pace.rate)

    def _context(
        self,
        api: ApiCalls,
        *,
        on_result: Callable[[Result], None],
        on_progress: Callable[[Progress], None],
    ) -> ApplyContext:
        pace = api.pace
        return ApplyContext(
            calls=api.calls,
            run=f"run-{os.urandom(8).hex()}",
            clock=RunClock(self._now),
            gate=Gate(
                self._stop,
                is_away=lambda: pace.given_up and not pace.is_limited,
                is_limited=lambda: pace.given_up and pace.is_limited,
                in_flight=api.in_flight,
            ),
            listener=ApplyListener(
                on_result=on_result,
                on_progress=lambda progress: on_progress(
                    progress._replace(
                        rate=pace.rate,
                        waiting_for="; ".join(
                            filter(None, (pace.waiting_for(), progress.waiting_for))
                        ),
                    )
                ),
                on_state_write=pace.learn_write_time,
            ),
            starter=run_starter(self._config.root, self._state.environ),
            request_options=sending_of(self._environment),
            quiet_period=self._environment.quiet_period,
        )

    def _is_metadata_changed(self, profiles: Iterable[Profile]) -> bool:
        """Whether labels, protection, platform, lifetime or place of a recorded profile changed. The state
        records these although no request sends them."""
        records = by_address(self._state.store.records())
        for profile in profiles:
            record = records.get(profile.address)
            if record is not None and (
                record.labels != profile.labels
                or record.protect != profile.protect
                or record.platform != profile.platform
                or record.lifetime != profile.lifetime
                or record.from_environment != tuple(sorted(profile.from_environment))
                or record.source != profile.source._replace(column=0)
            ):
                return True
        return False

    def _save_outcomes(self, problem: StateWriteFailed) -> None:
        """Writes the outcomes that the state could not take into a file, and adds its name to the hint.

        The file holds no values: addresses, outcomes, digests of requests, and the API's Request-Ids.
        """
        import tempfile

        if not problem.entries:
            return
        lines = "".join(json.dumps(entry._asdict()) + "\n" for entry in problem.entries)
        for folder in (self._environment.cache, Path(tempfile.gettempdir())):
            with suppress(OSError):
                descriptor, name = tempfile.mkstemp(
                    dir=folder, prefix=f"{self._environment.name}-outcomes-", suffix=".jsonl"
                )
                with open(descriptor, "w", encoding="ascii") as file:
                    file.write(lines)
                    file.flush()
                    os.fsync(file.fileno())
                count = len(problem.entries)
                noun = "outcome that it does not know is" if count == 1 else "outcomes are"
                problem.hint += (
                    f" Nothing was lost: what was under way counts as uncertain and is sent again. "
                    f"{count} {noun} in {name}"
                )
                return
        problem.hint += " What was under way counts as uncertain, and is sent again."
