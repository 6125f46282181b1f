"""Tokens of Google for every type of credentials that google-auth knows, such as federated logins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import google.auth
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request

from reconciler.errors import UsageError

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_EARLIER = timedelta(minutes=4)
"""A token is fetched anew this long before its end, so that none ends on its way."""


class GoogleTokens:
    """Gives tokens as the library of the bucket asks for them. Raises UsageError where there are no
    credentials."""

    def __init__(self) -> None:
        try:
            self._credentials: Any = google.auth.default(scopes=[_SCOPE])[0]
        except (GoogleAuthError, ValueError):
            raise UsageError(
                "google-auth finds no usable credentials of Google",
                hint="GOOGLE_APPLICATION_CREDENTIALS names their file (docs/teams.md).",
            ) from None
        self._request = Request()

    def __call__(self) -> dict[str, Any]:
        self._credentials.refresh(self._request)
        expiry: datetime | None = self._credentials.expiry
        if expiry is not None:
            expiry = (expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)) - _EARLIER
        return {"token": self._credentials.token, "expires_at": expiry}
