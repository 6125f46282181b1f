"""A state on another machine: whether a checkout may lead there, and opening it. An edge.

A pull request writes `reconcile.yaml`. So nothing is read, run or sent before this has looked at what was
allowed outside of the checkout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from reconciler.config.trust import ALLOWED_COMMANDS, ALLOWED_HOSTS, ALLOWED_STATES, Trust
from reconciler.errors import InputError, Refused
from reconciler.state.location import AddressFlaw, StateLocation
from reconciler.state.opening import open_store
from reconciler.state.store import Store
from reconciler.values import shown
from reconciler.workspace.sightings import Place


class RemoteState:
    """The state at a location that is no file."""

    def __init__(
        self, location: StateLocation, *, trust: Trust, environ: Mapping[str, str]
    ) -> None:
        self._configured = location
        self._trust = trust
        self._environ = environ

    @cached_property
    def location(self) -> StateLocation:
        """The location with its address. Raises InputError where a variable holds none."""
        variable = self._configured.url_env
        try:
            return self._configured.resolved(self._environ)
        except AddressFlaw as flaw:
            raise InputError(
                f"the text that the variable {variable} holds {flaw.message} (environment "
                f"{self._configured.environment} names it in state.url_env)",
                hint=flaw.hint,
            ) from None

    @property
    def name(self) -> str:
        """The address as messages show it."""
        return shown(self.location.url)

    @property
    def argument(self) -> str:
        """The word that names the state in a command; see `is_at`."""
        return self.location.url

    @property
    def place(self) -> Place:
        """The key of what was last seen of the state."""
        return Place(self.location.identity, self.location.environment)

    def is_at(self, file: Path | str) -> bool:
        """Whether a text is the address of this state."""
        return str(file) in (self.location.url, self.location.identity)

    def open(self) -> Store:
        """The store. Raises Refused where a checkout alone leads there, or to a command."""
        location = self.location
        if not self._trust.allows_state(location):
            raise self._not_allowed()
        self._require_command("password_command", location.password_command)
        if location.encryption is not None:
            self._require_command("encryption.key_command", location.encryption.key_command)
        return open_store(location, environ=self._environ)

    def _not_allowed(self) -> Refused:
        location = self.location
        name = location.environment
        if location.endpoint is not None and not self._trust.allows_host(location.endpoint):
            return Refused(
                f"the state would go to {shown(location.endpoint)} (state.endpoint of environment {name}), "
                "which was not allowed outside of the checkout; nothing was sent",
                hint=f"If that host may have it: --allowed-hosts HOST:PORT, the variable {ALLOWED_HOSTS}, or "
                "`allowed_hosts` in your trust.yaml (docs/trust.md).",
            )
        return Refused(
            f"the state would be kept in {self.name} (state.url of environment {name}), which was not "
            "allowed outside of the checkout; nothing was sent",
            hint=f"If it may be there: --allowed-states, the variable {ALLOWED_STATES}, or "
            "`allowed_states` in your trust.yaml (docs/trust.md).",
        )

    def _require_command(self, setting: str, words: Sequence[str]) -> None:
        if words and not self._trust.allows_command(words):
            raise Refused(
                f"the command {shown(words[0])} (state.{setting} of environment "
                f"{self.location.environment}) was not allowed outside of the checkout; nothing was run",
                hint=f"If it may run: --allowed-commands, the variable {ALLOWED_COMMANDS}, with the whole "
                "command on a line, or `allowed_commands` in your trust.yaml (docs/trust.md).",
            )
