"""A state on another machine is opened only where it was allowed; the text of its variable is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config.trust import Trust, trust_of
from reconciler.errors import InputError, Refused
from reconciler.state.location import StateLocation
from reconciler.workspace.remote_state import RemoteState

VARIABLE = StateLocation("", "live", Path("cache"), url_env="STATE_URL")
DATABASE = "postgresql://ann:hunter2@db.internal/ops?schema=live"


def test_an_address_of_a_variable_needs_no_list_and_keeps_its_password() -> None:
    state = RemoteState(VARIABLE, trust=Trust(), environ={"STATE_URL": DATABASE})
    assert state.name == "postgresql://ann@db.internal:5432/ops?schema=live"
    assert state.is_at(state.argument)
    assert "hunter2" not in repr(state.location) + str(state.place)
    state.open().close()


@pytest.mark.parametrize(
    "text", ["", "mysql://hunter2", "postgresql://ann:hunter2@db.internal/ops"]
)
def test_a_variable_without_an_address_is_told_by_its_name(text: str) -> None:
    with pytest.raises(InputError, match="variable STATE_URL") as refused:
        RemoteState(VARIABLE, trust=Trust(), environ={"STATE_URL": text}).open()
    assert "hunter2" not in refused.value.message + refused.value.hint


def test_a_command_needs_to_be_allowed_though_the_address_is() -> None:
    location = VARIABLE._replace(password_command=("vault", "read", "a b"))
    environ = {"STATE_URL": DATABASE}
    with pytest.raises(Refused, match=r"the command vault .*nothing was run"):
        RemoteState(location, trust=Trust(), environ=environ).open()
    trust = trust_of({"RECONCILE_ALLOWED_COMMANDS": "vault read 'a b'"})
    RemoteState(location, trust=trust, environ=environ).open().close()
