"""The connection of a workspace to the API, or to the embedded emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reconciler.config.hosts import host_of
from reconciler.config.places import ProjectPlaces
from reconciler.config.settings import EMULATOR, Environment, is_proxy_address
from reconciler.config.trust import ALLOWED_HOSTS, Trust
from reconciler.core.options import Rate
from reconciler.core.plan import Request
from reconciler.errors import InputError, ReconcileError, Refused
from reconciler.remote.answers import ApiAnswer
from reconciler.remote.engine import Calls
from reconciler.remote.pacing import MOST_IN_FLIGHT, Clock, Pace, SystemClock
from reconciler.remote.threads import DaemonExecutor, ExecutorCalls
from reconciler.remote.turns import Turns
from reconciler.state.side_files import SideFiles
from reconciler.state.store import Store
from reconciler.values import shown
from reconciler.workspace.shared_rate import shared_turns
from reconciler.workspace.tracked import refuse_tracked

if TYPE_CHECKING:
    from reconciler.remote.client import Client, Exchange


class ApiCalls(NamedTuple):
    """Calls of the API, the pace at which they leave, and how many may be under way at most."""

    calls: Calls
    pace: Pace
    parallelism: int | None

    def in_flight(self) -> int:
        """How many calls may be under way at present."""
        return self.pace.in_flight(self.parallelism)


class _OpenClient(NamedTuple):
    """An open connection to the API, and the threads that use it."""

    url: str
    client: Client
    executor: Executor


class HostQuestion(NamedTuple):
    """A host that a key is to go to, and that was not allowed outside of the checkout."""

    host: str
    """HOST:PORT."""
    environment: str
    key_env: str
    """The variable that holds the key."""
    is_proxy: bool = False
    """Whether the host is that of a proxy. It sees the traffic, and of TLS not the content."""


class Connection:
    """The key, the client and the threads by which an environment's API is called."""

    def __init__(
        self,
        environment: Environment,
        *,
        places: ProjectPlaces,
        environ: Mapping[str, str],
        trust: Trust,
        ask_host: Callable[[HostQuestion], bool],
        stop: Callable[[], bool],
        clock: Clock | None,
        store: Callable[[], Store],
        on_exchange: Callable[[Exchange], None] = lambda exchange: None,
        access_levels: Sequence[str] = (),
    ) -> None:
        """``places`` are those of the project. The secret key is looked up in ``environ``, once its host is
        known to be allowed by ``trust`` or by the answer of ``ask_host``; ``clock`` is the clock by which
        calls wait. ``store`` gives the state, where a rate is shared. ``on_exchange`` is given each request
        with its answer, in any thread. ``access_levels`` are those of the app of the embedded emulator."""
        self._environment = environment
        self._places = places
        self._access_levels = access_levels
        self._environ = environ
        self._trust = trust
        self._ask_host = ask_host
        self._is_allowed = environment.url == EMULATOR
        self._store = store
        self._stop = stop
        self._clock = clock
        self._on_exchange = on_exchange
        self._kept_open: _OpenClient | None = None

    def require_key(self) -> None:
        """Raises InputError where the key is missing, or the proxy's address; Refused where the key may not
        go to the host. The embedded emulator needs none."""
        if self._environment.url != EMULATOR:
            self.require_allowed_hosts()
            self._key()
            self._proxy()

    @property
    def key_hint(self) -> str:
        """Where the key is to be put."""
        return (
            f"Set {self._environment.key_env} to the app's secret key (environment "
            f"{self._environment.name} names the variable in api.key_env)."
        )

    @contextmanager
    def keep_open(self) -> Iterator[str]:
        """Until the block ends, one connection serves every call. Gives the base address of the API.

        Raises InputError where the key is missing.
        """
        with self._open() as client:
            self._kept_open = client
            try:
                yield client.url
            finally:
                self._kept_open = None

    @contextmanager
    def calls(
        self,
        *,
        rate: Rate | None = None,
        parallelism: int | None = None,
        may_leave: Callable[[], bool] = lambda: True,
    ) -> Iterator[ApiCalls]:
        """Calls of the API, at the configured rate by default. ``may_leave`` is asked right before each
        attempt.

        Raises InputError where the key is missing.
        """
        with ExitStack() as stack:
            client = self._kept_open or stack.enter_context(
                self._open(rate=rate, parallelism=parallelism)
            )
            # Everybody gets calls of their own, so that nobody is handed an answer that another one left.
            send = partial(client.client.send, may_leave=may_leave)
            yield ApiCalls(ExecutorCalls(client.executor, send), client.client.pace, parallelism)

    def send(self, request: Request) -> ApiAnswer:
        """The answer to one call.

        Raises InputError where the key is missing, Refused where it may not go to the host.
        """
        with self._open(parallelism=1) as opened:
            return opened.client.send(request)

    @contextmanager
    def _open(
        self, *, rate: Rate | None = None, parallelism: int | None = None
    ) -> Iterator[_OpenClient]:
        from reconciler.remote.client import Client

        environment = self._environment
        self.require_allowed_hosts()
        with ExitStack() as stack:
            url, key = self._address(stack)
            rate = environment.rate if rate is None else rate
            turns = self._shared_turns(rate, stack) if environment.rate_shared else None
            client = Client(
                base_url=url,
                key=key,
                timeout=environment.timeout,
                attempt_timeout=environment.attempt_timeout,
                patience=environment.patience,
                rate=rate,
                turns=turns,
                proxy=None if environment.url == EMULATOR else self._proxy(),
                ca_bundle=str(environment.ca_bundle) if environment.ca_bundle else None,
                clock=self._clock,
                stop=self._stop,
                on_exchange=self._on_exchange,
            )
            stack.callback(client.close)
            executor = stack.enter_context(DaemonExecutor(parallelism or MOST_IN_FLIGHT))
            yield _OpenClient(url, client, executor)

    def _shared_turns(self, rate: Rate, stack: ExitStack) -> Turns | None:
        """The turns of the rate that all processes with this state share."""
        clock = self._clock or SystemClock()
        return stack.enter_context(shared_turns(self._store(), rate, clock=clock.now))

    def require_allowed_hosts(self) -> None:
        """The one door to a client: nothing was read of the key, nothing is connected yet.

        A proxy that the configuration names is held to the same list. The address in a variable
        (``proxy_env``) was set outside of the checkout, like the list.

        Raises Refused where a host is not allowed, and nobody said yes.
        """
        if self._is_allowed:
            return
        environment = self._environment
        for url, is_proxy in ((environment.url, False), (environment.proxy, True)):
            if url is None or self._trust.allows_host(url):
                continue
            host = host_of(url)
            question = HostQuestion(
                str(host), environment.name, environment.key_env or "", is_proxy=is_proxy
            )
            if host is None or not self._ask_host(question):
                setting = "proxy" if is_proxy else "url"
                what = "requests would go through" if is_proxy else "the key would go to"
                where = "a host whose name is none" if host is None else str(host)
                raise Refused(
                    f"{what} {where} (api.{setting} of environment {environment.name}), which was not "
                    "allowed outside of the checkout; nothing was sent",
                    hint="If that host may have it: --allowed-hosts HOST:PORT, the variable "
                    f"{ALLOWED_HOSTS}, or `allowed_hosts` in your trust.yaml (docs/trust.md).",
                )
        self._is_allowed = True

    def _address(self, stack: ExitStack) -> tuple[str, str]:
        """The base address of the API and the key; starts the embedded emulator if that is the API."""
        environment = self._environment
        if environment.url != EMULATOR:
            return environment.url, self._key()
        from reconciler.emulator.api import Emulator
        from reconciler.emulator.server import EmulatorServer

        self._open_emulators_file(environment.emulator_db, stack)
        emulator = Emulator(
            dialect=environment.dialect.value,
            db=environment.emulator_db,
            access_levels=self._access_levels,
        )
        stack.callback(emulator.close)
        return stack.enter_context(EmulatorServer(emulator)).url, "emulator"

    def _open_emulators_file(self, path: Path, stack: ExitStack) -> None:
        """Makes sure that the emulator's file is ours, as a state has to be; see `SideFiles`."""
        refuse_tracked(path)
        try:
            if path.parent == self._places.states:
                self._places.record()
            stack.enter_context(SideFiles(self._places.homes.state).used_with_log(path))
        except OSError as problem:
            where = shown(str(path))
            raise ReconcileError(f"cannot use {where}: {problem.strerror}") from None

    def _proxy(self) -> str | None:
        """The proxy's address, which may hold a login, so it is never quoted."""
        name = self._environment.proxy_env
        if name is None:
            return self._environment.proxy
        address = self._environ.get(name, "").strip()
        hint = (
            f"Set {name} to http://USER:PASSWORD@HOST:PORT, with special characters as %XX (environment "
            f"{self._environment.name} names the variable in api.proxy_env)."
        )
        if not address:
            raise InputError(f"the variable {name} holds no address of a proxy", hint=hint)
        if not is_proxy_address(address):
            raise InputError(
                f"the text that the variable {name} holds is not the address of a proxy", hint=hint
            )
        return address

    def _key(self) -> str:
        name = self._environment.key_env or ""
        key = self._environ.get(name, "").strip()
        if not key:
            raise InputError(f"the variable {name} holds no secret key", hint=self.key_hint)
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(
                f"what the variable {name} holds is not a secret key", hint=self.key_hint
            )
        return key


@contextmanager
def no_calls() -> Iterator[ApiCalls]:
    """The calls of an apply that has nothing to send: it needs neither a key nor an API."""

    def send(request: Request) -> ApiAnswer:
        raise AssertionError("nothing was to be sent")

    with DaemonExecutor(1) as executor:
        yield ApiCalls(ExecutorCalls(executor, send), Pace(Rate(None), clock=SystemClock()), None)
