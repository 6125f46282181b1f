"""The key and the proxy of an environment, which variables hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.emulator import Emulator
from reconciler.errors import InputError
from tests.support.places import state_of
from tests.support.projects import JANE, KEY, Project, remote
from tests.support.wire import Serve

SECRET = "pass-word-123"
ALLOWED = {"RECONCILE_ALLOWED_HOSTS": "api.example"}


def project(folder: Path) -> Project:
    settings = remote("https://api.example", api={"proxy_env": "THE_PROXY", "timeout": 1})
    return Project(folder, settings, profiles={"jane": JANE})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "the variable THE_PROXY holds no address of a proxy"),
        (f"me:{SECRET}@proxy:1", "the text that the variable THE_PROXY holds is not the address"),
        (f"socks5://me:{SECRET}@proxy:1", "the text that the variable THE_PROXY holds is not"),
    ],
)
def test_a_proxy_that_is_missing_or_no_address_is_invalid_input(
    tmp_path: Path, value: str, text: str
) -> None:
    opened = project(tmp_path)
    opened.run("apply", "--auto-approve", code=3, SECRET_KEY=KEY, THE_PROXY=value, **ALLOWED)
    assert text in opened.err
    assert "api.proxy_env" in opened.err
    assert SECRET not in "".join(opened.outputs)


def test_the_login_of_a_proxy_is_in_no_message(tmp_path: Path) -> None:
    opened = project(tmp_path)
    for name in ("ann", "bob", "joe"):
        opened.profile(name, JANE.replace("jane", name))
    address = f"http://me:{SECRET}@127.0.0.1:9"
    opened.run("apply", "--auto-approve", code=5, SECRET_KEY=KEY, THE_PROXY=address, **ALLOWED)
    told = "".join(opened.outputs)
    assert "cannot connect: nothing listens at the proxy 127.0.0.1:9: check api.proxy" in told
    assert "The API cannot be reached, for the reason above." in told
    assert SECRET not in told


def test_a_refresh_that_reaches_nobody_says_why(serve: Serve, tmp_path: Path) -> None:
    opened = project(tmp_path)
    opened.profile("joe", JANE.replace("jane", "joe"))
    api = serve()
    opened.configure(remote(api.server.url))
    opened.run("apply", "--auto-approve", SECRET_KEY=KEY)
    api.server.stop()
    opened.run("refresh", code=5, SECRET_KEY=KEY)
    assert "the API does not answer: cannot connect: nothing listens at 127.0.0.1:" in opened.err


def test_a_plan_needs_no_proxy(tmp_path: Path) -> None:
    with project(tmp_path).workspace(environ=ALLOWED) as workspace:
        plan = workspace.plan()
        assert len(list(plan.changes)) == 1
        with pytest.raises(InputError):
            workspace.apply(plan)


def test_the_app_of_the_embedded_emulator_has_the_access_levels_of_the_configuration(
    tmp_path: Path,
) -> None:
    local = {"local": {"api": {"url": "emulator"}}}
    settings = {"version": 1, "access_levels": ["pro", "premium"], "environments": local}
    Project(tmp_path, settings, profiles={"jane": JANE}).run("apply", "--auto-approve")
    emulator = Emulator(db=state_of(tmp_path, "emulator.db"))
    assert emulator.access_levels == ("premium", "pro")
    emulator.close()
