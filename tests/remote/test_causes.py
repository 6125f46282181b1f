"""The cause of a failed connection: the innermost one, in words of ours, with the setting that mends it."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from reconciler.remote.causes import Route, cause_of

DIRECT = Route("https://api.example/prefix")
PROXIED = Route("https://api.example", "https://proxy.example:3128")


def unverified(code: int) -> ssl.SSLCertVerificationError:
    problem = ssl.SSLCertVerificationError(1, "certificate verify failed")
    problem.verify_code = code
    problem.verify_message = "why"
    return problem


def tls(reason: str) -> ssl.SSLError:
    problem = ssl.SSLError(1, reason)
    problem.reason = reason
    return problem


CAUSES: list[tuple[BaseException, str]] = [
    (unverified(18), "the certificate of api.example is not trusted: set api.ca_bundle"),
    (
        unverified(10),
        "the certificate of api.example has expired: renew it, or check the clock of this machine",
    ),
    (
        unverified(9),
        "the certificate of api.example is not valid yet: check the clock of this machine",
    ),
    (unverified(62), "the certificate of api.example is for another name: check api.url"),
    (unverified(99), "the certificate of api.example is not valid (why)"),
    (
        tls("WRONG_VERSION_NUMBER"),
        "api.example:443 does not speak TLS: check the port, and https://, in api.url",
    ),
    (
        tls("TLSV1_ALERT_PROTOCOL_VERSION"),
        "api.example:443 speaks no TLS that is safe (1.2 or newer): check api.url",
    ),
    (
        socket.gaierror(-2, "Name or service not known"),
        "the name api.example cannot be resolved: check api.url and the network",
    ),
    (
        TimeoutError("timed out"),
        "api.example:443 does not answer: check api.url and the network; behind a firewall, set "
        "api.proxy",
    ),
    (OSError(errno.ECONNREFUSED, "refused"), "nothing listens at api.example:443: check api.url"),
    (
        OSError(errno.ENETUNREACH, "unreachable"),
        "there is no route to api.example:443: check api.url and the network",
    ),
    (ConnectionResetError(104, "reset"), "api.example:443 hung up at once: check api.url"),
    (ValueError("odd"), ""),
]


def wrapped(problem: BaseException, how: str) -> BaseException:
    """The error inside of others, as libraries wrap errors."""
    outer = RuntimeError("secret_live_key in /path") if how != "argument" else RuntimeError(problem)
    if how == "cause":
        outer.__cause__ = problem
    elif how == "context":
        outer.__context__ = problem
    elif how == "reason":
        outer.reason = problem  # type: ignore[attr-defined]
    return RuntimeError(outer)


@pytest.mark.parametrize("how", ["argument", "cause", "context", "reason"])
@pytest.mark.parametrize(("problem", "text"), CAUSES)
def test_the_innermost_error_is_told(problem: BaseException, text: str, how: str) -> None:
    assert cause_of(wrapped(problem, how), DIRECT) == text


class ProxyError(Exception):
    """Named like the error of urllib3, by which the place of a failure is told."""


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (unverified(18), "the certificate of proxy.example is not trusted: set api.ca_bundle"),
        (
            tls("WRONG_VERSION_NUMBER"),
            "the proxy proxy.example:3128 does not speak TLS: check the port, and https://, in api.proxy",
        ),
        (
            socket.gaierror(-2, "x"),
            "the name proxy.example cannot be resolved: check api.proxy and the network",
        ),
    ],
)
def test_a_failure_at_the_proxy_names_the_proxy(problem: BaseException, text: str) -> None:
    assert cause_of(ProxyError("Unable to connect", problem), PROXIED) == text


def test_an_error_that_wraps_itself_ends() -> None:
    problem = RuntimeError()
    problem.__context__ = RuntimeError(problem)
    assert cause_of(problem, DIRECT) == ""
