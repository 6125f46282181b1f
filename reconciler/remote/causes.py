"""The reason why a request did not reach the API, and the setting that mends it.

An error of requests or urllib3 wraps others, and its text may hold the key, the path or a proxy's password.
So the innermost error is looked for, and told in words of ours.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

_UNTRUSTED = frozenset({2, 18, 19, 20, 21, 24, 26, 27})
"""Codes of OpenSSL (x509_vfy.h) for a certificate whose issuer is unknown or not trusted."""
_NOT_YET, _EXPIRED = 9, 10
_OTHER_NAME = frozenset({62, 64})
_NO_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL",
     "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
)  # fmt: skip
_OLD_TLS = frozenset(
    {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE",
     "SSLV3_ALERT_HANDSHAKE_FAILURE", "DH_KEY_TOO_SMALL", "NO_SHARED_CIPHER"}
)  # fmt: skip
_CLIENT_CERTIFICATE = frozenset(
    {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE"}
)
_TUNNEL = re.compile(r"Tunnel connection failed: ([0-9]{3})")
_REFUSED = frozenset({errno.ECONNREFUSED})
_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})
_DEEPEST = 20


class EarlyAnswer(Exception):
    """The server said something, or hung up, before the request was written: that answers nothing."""


class PublicAddress(Exception):
    """The address of the API is public, and the request would travel in clear."""


class Route(NamedTuple):
    """The way to the API, for messages."""

    api: str
    """Its base address."""
    proxy: str | None = None
    """The address of the proxy, without a login."""
    ca_bundle: str | None = None

    @property
    def target(self) -> str:
        """Host and port of the API."""
        return _host_and_port(self.api)


def cause_of(problem: BaseException, route: Route) -> str:
    """The innermost cause of an error in a sentence, with the setting that mends it. ``""`` if it is none
    that we know."""
    chain = list(_chain(problem))
    for each in chain:
        if text := _cause(each, route, at_proxy=_is_at_proxy(chain, route)):
            return text
    return ""


def asks_for_login(route: Route) -> str:
    """The sentence about a proxy that answered 407."""
    return (
        f"the proxy {_host_and_port(route.proxy or '')} asks for a login, or refuses the given one: "
        "set api.proxy_env"
    )


def _chain(problem: BaseException) -> Iterator[BaseException]:
    """The errors that an error wraps, the innermost first."""
    errors: list[BaseException] = []
    waiting: list[object] = [problem]
    while waiting and len(errors) < _DEEPEST:
        each = waiting.pop(0)
        if not isinstance(each, BaseException) or any(each is known for known in errors):
            continue
        errors.append(each)
        waiting += [
            *each.args,
            getattr(each, "reason", None),
            getattr(each, "original_error", None),
        ]
        waiting += [each.__cause__, each.__context__]
    return reversed(errors)


def _is_at_proxy(chain: list[BaseException], route: Route) -> bool:
    return route.proxy is not None and any(type(each).__name__ == "ProxyError" for each in chain)


def _cause(problem: BaseException, route: Route, *, at_proxy: bool) -> str:
    url, setting = (route.proxy or "", "api.proxy") if at_proxy else (route.api, "api.url")
    what = f"the proxy {_host_and_port(url)}" if at_proxy else _host_and_port(url)
    host = urlsplit(url).hostname or "?"
    match problem:
        case EarlyAnswer():
            return f"{what} speaks, or hangs up, before it is asked: check the port in {setting}"
        case PublicAddress():
            return f"{host} is a public address, where http:// would send the key in clear: use https://"
        case ssl.SSLCertVerificationError():
            return _certificate(problem, host, setting=setting, ca_bundle=route.ca_bundle)
        case ssl.SSLEOFError() | ConnectionResetError() | BrokenPipeError():
            return f"{what} hung up at once: check {setting}"
        case ssl.SSLError():
            return _tls(problem.reason or "", what, setting=setting)
        case socket.gaierror():
            return f"the name {host} cannot be resolved: check {setting} and the network"
        case TimeoutError():
            mend = f"check {setting} and the network"
            return f"{what} does not answer: {mend}" + (
                "" if route.proxy else "; behind a firewall, set api.proxy"
            )
        case OSError() if tunnel := _TUNNEL.search(str(problem)):
            return _refused_tunnel(int(tunnel[1]), route)
        case OSError() if problem.errno in _REFUSED:
            return f"nothing listens at {what}: check {setting}"
        case OSError() if problem.errno in _NO_ROUTE:
            return f"there is no route to {what}: check {setting} and the network"
        case _:
            return ""


def _certificate(
    problem: ssl.SSLCertVerificationError, host: str, *, setting: str, ca_bundle: str | None
) -> str:
    code = problem.verify_code
    subject = f"the certificate of {host}"
    if code in _UNTRUSTED:
        mend = "set api.ca_bundle"
        if ca_bundle is not None:
            mend = "api.ca_bundle does not hold the certificate of its issuer"
        return f"{subject} is not trusted: {mend}"
    if code == _EXPIRED:
        return f"{subject} has expired: renew it, or check the clock of this machine"
    if code == _NOT_YET:
        return f"{subject} is not valid yet: check the clock of this machine"
    if code in _OTHER_NAME:
        return f"{subject} is for another name: check {setting}"
    return f"{subject} is not valid ({problem.verify_message})"


def _tls(reason: str, what: str, *, setting: str) -> str:
    if reason in _NO_TLS:
        return f"{what} does not speak TLS: check the port, and https://, in {setting}"
    if reason in _OLD_TLS:
        return f"{what} speaks no TLS that is safe (1.2 or newer): check {setting}"
    if reason in _CLIENT_CERTIFICATE:
        return f"{what} asks for a certificate of the client, and there is no setting for one"
    return ""


def _refused_tunnel(status: int, route: Route) -> str:
    proxy = _host_and_port(route.proxy or "")
    if status == 407:
        return asks_for_login(route)
    if status >= 500:
        return f"the proxy {proxy} does not reach {route.target} ({status}): check api.url and api.proxy"
    return f"the proxy {proxy} refuses to connect to {route.target} ({status}): check api.proxy"


def _host_and_port(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or "?"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
