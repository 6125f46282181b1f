"""Says which requests leave, with ``--verbose``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.cli.streams import stderr_line
from reconciler.values import shown

if TYPE_CHECKING:
    from reconciler.remote.client import Exchange


def print_exchange(exchange: Exchange) -> None:
    """Prints a request and its answer to stderr: no body and no authorisation, which hold values and the
    key. The headers of a request name the profile."""
    request, answer = exchange.request, exchange.answer
    profile = " ".join(f"{name}={value}" for name, value in sorted(request.headers.items()))
    status = str(answer.status or answer.result)
    parts = [
        " ".join(part for part in (status, answer.error_code) if part),
        f"{exchange.seconds * 1000:,.0f} ms",
        f"Request-Id {answer.request_id}" if answer.request_id else "no Request-Id",
    ]
    stderr_line(shown(f"{request.method} {request.path} {profile}: {', '.join(parts)}"))
