"""Texts of configurations for tests."""

from __future__ import annotations

LOCAL = "version: 1\nenvironments:\n  local:\n    api: {url: emulator}\n"
"""A configuration with the emulator as its one environment."""


def production(api: str = "", rest: str = "") -> str:
    """A configuration with one environment that is not the emulator."""
    url = "" if "url:" in api else "      url: https://api.adapty.io\n"
    key = "" if "key_env:" in api else "      key_env: KEY\n"
    more = f"      {api}\n" if api else ""
    return f"version: 1\nenvironments:\n  live:\n    api:\n{url}{key}{more}{rest}"
