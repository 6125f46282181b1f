"""Names of files of profiles that are imported: one for each address, and none that is special."""

from __future__ import annotations

import pytest

from reconciler.authoring.transcript import file_name
from reconciler.authoring.walk import DEFAULTS, is_profile_name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("jane", "jane.yaml"),
        ("a.b_c-D", "a.b_c-D.yaml"),
        ("jane@example.com", "jane%40example.com.yaml"),
        ("a/b\\c", "a%2Fb%5Cc.yaml"),
        ("100%", "100%25.yaml"),
        ("..", "%2E..yaml"),
        (".", "%2E.yaml"),
        ("_defaults", "%5Fdefaults.yaml"),
        ("NUL", "%4EUL.yaml"),
        ("com1.x", "%63om1.x.yaml"),
        ("console", "console.yaml"),
        ("profile:3fa85f64-5717-4562-b3fc-2c963f66afa6",
         "profile%3A3fa85f64-5717-4562-b3fc-2c963f66afa6.yaml"),
    ],
)  # fmt: skip
def test_the_name_is_the_address_percent_encoded(address: str, name: str) -> None:
    assert file_name(address) == name


@pytest.mark.parametrize("address", ["x" * 251, "/" * 84, "x" * 248 + "//", "é" * 200])
def test_a_long_name_is_cut_and_stays_distinct(address: str) -> None:
    name = file_name(address)
    assert len(name.encode()) <= 255
    assert name != file_name(address + "y")
    assert "%~" not in name


def test_a_name_that_differs_in_capitals_only_gets_a_digest() -> None:
    names = {file_name(each, is_distinct=True).casefold() for each in ("jane", "Jane", "JANE")}
    assert len(names) == 3


def test_every_name_is_that_of_a_profile_file() -> None:
    for address in (chr(code) for code in range(33, 127)):
        for name in (file_name(address), file_name(address * 2)):
            assert is_profile_name(name)
            assert name != DEFAULTS
