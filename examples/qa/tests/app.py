"""The code under test: a client of the API, as in the back end of an app."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import requests

PATH = "/api/v2/server-side-api/profile/"


class App:
    """One user of the app."""

    def __init__(self, url: str, user: Mapping[str, str]) -> None:
        self._url = url + PATH
        self._headers = {**user, "Authorization": "Api-Key of-the-emulator"}

    def attributes(self) -> dict[str, Any]:
        answer = requests.get(self._url, headers=self._headers, timeout=5)
        answer.raise_for_status()
        return {item["key"]: item["value"] for item in answer.json()["data"]["custom_attributes"]}

    def levels(self) -> set[str]:
        """The access levels that have not ended (by the clock of this machine)."""
        answer = requests.get(self._url, headers=self._headers, timeout=5)
        answer.raise_for_status()
        now = datetime.now(UTC)
        return {
            level["access_level_id"]
            for level in answer.json()["data"]["access_levels"]
            if level["expires_at"] is None or datetime.fromisoformat(level["expires_at"]) > now
        }

    def set(self, **attributes: Any) -> None:
        items = [{"key": key, "value": value} for key, value in attributes.items()]
        body = {"custom_attributes": items}
        requests.patch(self._url, headers=self._headers, json=body, timeout=5).raise_for_status()

    def close_account(self) -> None:
        requests.delete(self._url, headers=self._headers, timeout=5).raise_for_status()
