"""The pytest plugin: profiles in known states, from the embedded emulator to a sandbox app.

Fixtures: `adapty_profile`, `adapty_emulator`, `adapty_workspace`, `adapty_namespace`. Marker:
``adapty_profile``. Options: ``--adapty-env``, ``--adapty-config``, ``--adapty-keep``. Described in
docs/testing.md.

Every run of pytest imports this module where the package is installed. So it imports nothing of ours
but the errors until a fixture is used.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.errors import InputError, ReconcileError, Source, UsageError

if TYPE_CHECKING:
    from reconciler.emulator.server import EmulatorServer
    from reconciler.testing.handles import MakeProfile, ProfileHandle
    from reconciler.testing.sandbox import Sandbox
    from reconciler.workspace.facade import Workspace

_SCOPES = ("function", "class", "module", "session")
_HANDLES = pytest.StashKey[list["ProfileHandle"]]()
_RUN = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("adapty", "profiles for tests (reconcile)")
    group.addoption(
        "--adapty-env",
        metavar="NAME",
        help="Work on this environment of reconcile.yaml instead of an emulator of our own. "
        "Never on one with `confirm: true`.",
    )
    group.addoption(
        "--adapty-config",
        metavar="FILE",
        help="The configuration; by default reconcile.yaml, found upwards from the root folder.",
    )
    group.addoption(
        "--adapty-keep",
        action="store_true",
        help="Leave profiles as the tests left them.",
    )
    parser.addini("adapty_config", "The same as --adapty-config.", default="")
    parser.addini(
        "adapty_ttl",
        "How long profiles may live that a killed run leaves behind; then `reconcile sweep` deletes them.",
        default="1h",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "adapty_profile(name_or_mapping, *, scope='function', teardown='restore', **fields): "
        "make this profile exist as it is declared. scope: function, class, module or session; "
        "teardown: restore, delete or keep.",
    )
    config.stash[_RUN] = _run_of(config)


def _run_of(config: pytest.Config) -> str:
    """Names this run: the same in all processes of one, and in no other run."""
    return str(_worker_input(config).get("testrunuid") or secrets.token_hex(16))[:12]


def _worker_of(config: pytest.Config) -> str:
    return str(_worker_input(config).get("workerid", "main"))


def _worker_input(config: pytest.Config) -> Mapping[str, Any]:
    """The name that pytest-xdist gives to each of its processes; empty without it."""
    values: Mapping[str, Any] = getattr(config, "workerinput", {})
    return values


# --- fixtures ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def adapty_namespace(pytestconfig: pytest.Config) -> str:
    """``RUN-WORKER``: unique for this run and process, to make ids of."""
    return f"{pytestconfig.stash[_RUN]}-{_worker_of(pytestconfig)}"


@pytest.fixture(scope="session")
def adapty_sandbox(pytestconfig: pytest.Config) -> Iterator[Sandbox]:
    """The sandbox that makes profiles: on an emulator of this process, or on the environment of
    ``--adapty-env``."""
    from reconciler.testing.sandbox import Sandbox

    name = pytestconfig.getoption("adapty_config") or pytestconfig.getini("adapty_config")
    names = {
        "run": pytestconfig.stash[_RUN],
        "worker": _worker_of(pytestconfig),
        "ttl": pytestconfig.getini("adapty_ttl"),
    }
    path = pytestconfig.rootpath / name if name else None
    env = pytestconfig.getoption("adapty_env")
    if env is None:
        sandbox = Sandbox.emulated(pytestconfig.rootpath, config=path, **names)
    else:
        sandbox = Sandbox.of(pytestconfig.rootpath, env, config=path, **names)
    with sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def adapty_workspace(adapty_sandbox: Sandbox) -> Workspace:
    """The workspace of the profile files, on the environment of the tests."""
    return adapty_sandbox.workspace


@pytest.fixture
def _adapty_clean(adapty_sandbox: Sandbox) -> Iterator[Sandbox]:
    yield adapty_sandbox
    adapty_sandbox.clean()


@pytest.fixture
def adapty_emulator(_adapty_clean: Sandbox) -> EmulatorServer:
    """The emulator of this process: its address, log and faults. After every test it is emptied, except
    for profiles of a wider scope, and its faults are removed."""
    if _adapty_clean.server is None:
        pytest.skip("this test needs the emulator, and --adapty-env says otherwise")
    return _adapty_clean.server


class _Keeper:
    """The profiles of one scope. When the scope ends, they are taken back in reverse order."""

    def __init__(self, sandbox: Sandbox, *, keep: bool) -> None:
        self.sandbox = sandbox
        self._keep = keep
        self._handles: list[ProfileHandle] = []

    def make(
        self, wanted: Any, fields: Mapping[str, Any], *, teardown: str, origin: tuple[str, int]
    ) -> ProfileHandle:
        from reconciler.testing.handles import Teardown

        if teardown not in [*Teardown]:
            raise UsageError(f'"{teardown}" is no teardown', hint=f"One of {', '.join(Teardown)}.")
        handle = self.sandbox.make(
            wanted,
            fields,
            teardown=Teardown.KEEP if self._keep else Teardown(teardown),
            source=Source(*origin),
        )
        self._handles.append(handle)
        return handle

    def close(self) -> None:
        problems = []
        for handle in reversed(self._handles):
            try:
                self.sandbox.take_back(handle)
            except Exception as problem:
                problems.append(problem)
        if problems:
            raise problems[0]


def _keeper(scope: Any) -> Any:
    def keep(adapty_sandbox: Sandbox, pytestconfig: pytest.Config) -> Iterator[_Keeper]:
        keeper = _Keeper(adapty_sandbox, keep=pytestconfig.getoption("adapty_keep"))
        yield keeper
        keeper.close()

    return pytest.fixture(scope=scope, name=f"_adapty_{scope}")(keep)


_adapty_function = _keeper("function")
_adapty_class = _keeper("class")
_adapty_module = _keeper("module")
_adapty_session = _keeper("session")


@pytest.fixture
def adapty_profile(request: pytest.FixtureRequest, _adapty_clean: Sandbox) -> MakeProfile:
    """Makes profiles: ``adapty_profile(name_or_mapping, scope=…, teardown=…, **fields)``.

    The profile then exists with exactly its declared values; ``fields`` replace some of them. Without
    arguments the call gives the profile that the test's marker names.
    """
    file, line, _ = request.node.location
    origin = (str(file), (line or 0) + 1)
    handles = request.node.stash.setdefault(_HANDLES, [])

    def make(
        wanted: str | Mapping[str, Any] | None = None,
        /,
        *,
        scope: str = "function",
        teardown: str = "restore",
        **fields: Any,
    ) -> ProfileHandle:
        __tracebackhide__ = True
        if wanted is None:
            if len(marked) != 1:
                raise UsageError(
                    f"the test has {len(marked)} adapty_profile markers, so which one is meant?",
                    hint="Give a name or a mapping.",
                )
            return marked[0]
        if scope not in _SCOPES:
            raise UsageError(f'"{scope}" is no scope', hint=f"One of {', '.join(_SCOPES)}.")
        keeper: _Keeper = request.getfixturevalue(f"_adapty_{scope}")
        try:
            handle = keeper.make(wanted, fields, teardown=teardown, origin=origin)
        except ReconcileError as problem:
            raise _explained(problem) from None
        if handle not in handles:
            handles.append(handle)
        return handle

    marked: list[ProfileHandle] = []
    for mark in reversed([*request.node.iter_markers("adapty_profile")]):
        marked.append(make(*mark.args, **mark.kwargs))
    return make


def _explained(problem: ReconcileError) -> ReconcileError:
    """The same error with its findings and its hint as notes, and without lines of ours in its traceback."""
    from reconciler.reports.findings_text import diagnostics_text

    if isinstance(problem, InputError) and problem.diagnostics:
        problem.add_note(diagnostics_text(problem.diagnostics, color=False).rstrip("\n"))
    if problem.hint:
        problem.add_note(problem.hint)
    return problem.with_traceback(None)


@pytest.fixture(autouse=True)
def _adapty_marked(request: pytest.FixtureRequest) -> None:
    """Makes the profiles of a test with the marker, although the test does not use the fixture."""
    if request.node.get_closest_marker("adapty_profile") is not None:
        request.getfixturevalue("adapty_profile")


# --- reports -------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the plans of the profiles that a failed test used to its report."""
    report = yield
    handles = item.stash.get(_HANDLES, [])
    if report.failed and handles:
        texts = [handle.plan_text for handle in handles]
        report.sections.append(("profiles made by adapty_profile", "\n".join(texts)))
    return report


def pytest_report_header(config: pytest.Config) -> list[str]:
    env = config.getoption("adapty_env")
    return [f"adapty: environment {env}"] if env else []
