"""A checkout does not say alone where the key goes, what profiles may read, or where paths lead."""

from __future__ import annotations

import os
import pty
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Refused
from reconciler.testing import Sandbox
from reconciler.workspace.connection import HostQuestion
from tests.support.command_line import PROGRAM, environment
from tests.support.projects import JANE, KEY, Project, remote
from tests.support.wire import Api, Serve

# Names of this machine that no list knows: the resolver takes them for 127.0.0.1.
DISGUISES = ["2130706433", "0x7f000001"]


@pytest.fixture
def thief(serve: Serve) -> Iterator[Api]:
    """A server that no request may reach."""
    api = serve()
    yield api
    assert not list(api.emulator.log)


def project_of(folder: Path, api: Api, host: str = DISGUISES[0], **settings: Any) -> Project:
    url = f"http://{host}:{api.server.port}"
    return Project(
        folder,
        remote(url, api={"allow_http": True, "timeout": 2, **settings}),
        profiles={"jane": JANE},
    )


COMMANDS = [
    ("apply", "--auto-approve"),
    ("apply", "--auto-approve", "--refresh"),
    ("plan", "--refresh"),
]


@pytest.mark.parametrize("host", DISGUISES)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_key_goes_to_a_host_that_only_the_checkout_names(
    tmp_path: Path, thief: Api, command: tuple[str, ...], host: str
) -> None:
    project = project_of(tmp_path, thief, host)
    project.run(*command, code=6, SECRET_KEY=KEY)
    assert "which was not allowed outside of the checkout" in project.err
    assert "RECONCILE_ALLOWED_HOSTS" in project.err
    assert KEY not in "".join(project.outputs)


def test_the_refusal_comes_before_the_key_is_read(tmp_path: Path, thief: Api) -> None:
    project = project_of(tmp_path, thief)
    project.run("apply", "--auto-approve", code=6)
    assert "holds no secret key" not in project.err
    project.configure(remote("https://thief.example", api={"proxy_env": "THE_PROXY"}))
    project.run("apply", "--auto-approve", code=6)


def test_a_saved_plan_goes_to_allowed_hosts_only(tmp_path: Path, thief: Api) -> None:
    project = project_of(tmp_path, thief)
    project.run("plan", "--out", "a.plan")
    project.run("apply", "a.plan", "--auto-approve", code=6, SECRET_KEY=KEY)
    assert "not allowed outside of the checkout" in project.err


def test_refresh_and_sweep_go_to_allowed_hosts_only(
    tmp_path: Path, serve: Serve, thief: Api
) -> None:
    project = Project(tmp_path, profiles={"jane": JANE + "meta: {ttl: 1s}\n"})
    project.configure(remote(serve().server.url))
    project.run("apply", "--auto-approve", SECRET_KEY=KEY)
    project_of(tmp_path, thief)
    time.sleep(1.1)  # until the profile has expired
    for command in (("refresh",), ("sweep", "--auto-approve")):
        project.run(*command, code=6, SECRET_KEY=KEY)
        assert "not allowed outside of the checkout" in project.err


def test_a_proxy_of_the_checkout_must_be_allowed_as_well(tmp_path: Path, thief: Api) -> None:
    project = Project(tmp_path, profiles={"jane": JANE})
    proxy = f"http://{DISGUISES[0]}:{thief.server.port}"
    project.configure(remote("https://api.adapty.io", api={"proxy": proxy, "timeout": 1}))
    project.run("apply", "--auto-approve", code=6, SECRET_KEY=KEY)
    assert "requests would go through" in project.err


def test_a_sandbox_goes_to_allowed_hosts_only(
    tmp_path: Path, thief: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", KEY)
    project_of(tmp_path, thief)
    with pytest.raises(Refused, match="not allowed"), Sandbox.of(tmp_path, "remote"):
        pass


def allowed(port: int) -> list[dict[str, str]]:
    return [
        {"RECONCILE_ALLOWED_HOSTS": DISGUISES[0]},
        {"RECONCILE_ALLOWED_HOSTS": f"other.example, {DISGUISES[0]}:{port}"},
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_a_host_that_a_variable_allows_gets_the_key(
    tmp_path: Path, serve: Serve, number: int
) -> None:
    api = serve()
    project = project_of(tmp_path, api)
    variables = allowed(api.server.port)[number]
    project.run("apply", "--auto-approve", SECRET_KEY=KEY, **variables)
    assert list(api.emulator.log)


def test_a_host_that_an_option_allows_gets_the_key(tmp_path: Path, serve: Serve) -> None:
    api = serve()
    project = project_of(tmp_path, api)
    project.run(*("--allowed-hosts", DISGUISES[0], "apply", "--auto-approve"), SECRET_KEY=KEY)
    assert list(api.emulator.log)


def test_the_users_file_allows_a_host(tmp_path: Path, serve: Serve) -> None:
    api = serve()
    project = project_of(tmp_path / "project", api)
    trust = tmp_path / "user" / "reconcile" / "trust.yaml"
    trust.parent.mkdir(parents=True, mode=0o700)
    trust.write_text(f"version: 1\nallowed_hosts: ['{DISGUISES[0]}']\n")
    trust.chmod(0o600)
    home = {"XDG_CONFIG_HOME": str(tmp_path / "user")}
    project.run("apply", "--auto-approve", SECRET_KEY=KEY, **home)
    assert list(api.emulator.log)


@pytest.mark.parametrize(("answer", "code"), [("yes", 0), ("y", 6), ("YES", 6), ("", 6)])
def test_at_a_terminal_only_yes_sends_the_key(
    tmp_path: Path, serve: Serve, answer: str, code: int
) -> None:
    api = serve()
    project = project_of(tmp_path, api)
    ended, told = at_a_terminal(
        [*PROGRAM, "apply", "--auto-approve"], project.folder, f"{answer}\n", SECRET_KEY=KEY
    )
    assert (ended, bool(list(api.emulator.log))) == (code, code == 0)
    assert f"Send the key to {DISGUISES[0]}:{api.server.port}?" in told
    assert "environment remote, key in SECRET_KEY" in told
    assert "RECONCILE_ALLOWED_HOSTS" in told


def at_a_terminal(command: list[str], folder: Path, text: str, **variables: str) -> tuple[int, str]:
    """The exit code of a program at a terminal at which a person types a text, and all that it printed."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.chdir(folder)
        os.execve(command[0], command, environment(**variables))
    os.write(terminal, text.encode())
    told = b""
    try:
        while piece := os.read(terminal, 4096):
            told += piece
    except OSError:  # the other end was closed
        pass
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), " ".join(told.decode().split())


def test_a_library_user_is_asked_once(tmp_path: Path, serve: Serve) -> None:
    api = serve()
    project = project_of(tmp_path, api)
    questions: list[HostQuestion] = []

    def yes(question: HostQuestion) -> bool:
        questions.append(question)
        return True

    with project.workspace(environ={"SECRET_KEY": KEY}, ask_host=yes) as workspace:
        workspace.apply(workspace.plan(refresh=True))
    assert questions == [HostQuestion(f"{DISGUISES[0]}:{api.server.port}", "remote", "SECRET_KEY")]


# --- variables -----------------------------------------------------------------------------------

GREETING = "customer_user_id: jane\nfirst_name: '${env.%s}'\n"


@pytest.fixture
def prefixed(tmp_path: Path) -> Callable[[str], Project]:
    def project(name: str) -> Project:
        text = "version: 1\nenv_prefix: QA_\nenvironments: {local: {api: {url: emulator}}}\n"
        return Project(tmp_path, text, profiles={"jane": GREETING % name})

    return project


def test_in_a_build_the_prefix_is_said_outside_of_the_checkout(
    prefixed: Callable[[str], Project],
) -> None:
    project = prefixed("QA_NAME")
    variables = {"QA_NAME": "Janet", "CI": "true"}
    out = project.run("validate", code=3, **variables)
    assert "RECONCILE_ENV_PREFIX has to say which variables may be used" in out
    project.run("validate", **variables, RECONCILE_ENV_PREFIX="QA_")
    project.run("--env-prefix", "QA_", "validate", **variables)
    project.run("--env-prefix", "CI_", "validate", code=3, **variables)
    project.run("validate", QA_NAME="Janet")


def test_a_variable_that_is_named_like_a_secret_is_never_used(
    prefixed: Callable[[str], Project],
) -> None:
    project = prefixed("QA_API_KEY")
    out = project.run("validate", code=3, QA_API_KEY="hunter2", RECONCILE_ENV_PREFIX="QA_")
    assert "${env.QA_API_KEY} may not be used: its name is that of a secret" in out
    assert "hunter2" not in "".join(project.outputs)


# --- paths ---------------------------------------------------------------------------------------


def test_a_path_out_of_the_project_is_neither_read_nor_written(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    canary = outside / "jane.yaml"
    canary.write_text("customer_user_id: canary\n")
    project = Project(tmp_path, None, profiles={"jane": JANE})
    environments = "environments: {local: {api: {url: emulator}, state: {url: 'sqlite:///%s'}}}\n"
    for text in (
        f"version: 1\nprofiles: {outside}\nenvironments: {{local: {{api: {{url: emulator}}}}}}\n",
        "version: 1\n" + environments % (outside / "x.db"),
    ):
        project.configure(text)
        for command in (["validate"], ["plan"], ["render"], ["apply", "--auto-approve"]):
            project.run(*command, code=3)
            assert "leads out of the project" in project.err
    assert [*outside.iterdir()] == [canary]
    assert "canary" not in "".join(project.outputs)
    project.run("--allow-outside", "apply", "--auto-approve")
    assert (outside / "x.db").exists()


def test_a_suggested_command_repeats_what_was_allowed(tmp_path: Path) -> None:
    project = Project(tmp_path, profiles={"jane": JANE})
    project.run("--allow-outside", "--env-prefix", "QA_", "plan", "--out", "a.plan")
    assert "reconcile --allow-outside --env-prefix QA_ apply a.plan" in project.err
