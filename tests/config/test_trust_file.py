"""The user's file of what is allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.config.hosts import Host
from reconciler.config.reader import load_config
from reconciler.config.trust_file import read_trust, trust_path
from reconciler.errors import InputError, Refused
from tests.support.configurations import LOCAL

TEXT = "version: 1\nallowed_hosts: [a.example, 'b.example:8443']\nenv_prefix: QA_\noutside: [/srv/state]\n"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "user")}


@pytest.fixture
def file(environ: dict[str, str]) -> Path:
    path = trust_path(environ)
    assert path is not None
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


def test_the_file_is_read(file: Path, environ: dict[str, str]) -> None:
    trust = read_trust(environ)
    assert trust.hosts == (Host("a.example"), Host("b.example", 8443))
    assert (trust.env_prefix, trust.outside, trust.file) == ("QA_", ("/srv/state",), str(file))


def test_hosts_add_up_and_the_prefix_of_a_variable_wins(
    file: Path, environ: dict[str, str]
) -> None:
    variables = {"RECONCILE_ALLOWED_HOSTS": "c.example", "RECONCILE_ENV_PREFIX": "CI_"}
    trust = read_trust(environ | variables)
    assert [host.name for host in trust.hosts] == ["c.example", "a.example", "b.example"]
    assert trust.env_prefix == "CI_"


def test_without_a_file_nothing_is_allowed(environ: dict[str, str]) -> None:
    assert read_trust(environ) == read_trust({}) == read_trust({"XDG_CONFIG_HOME": "relative"})


def test_the_file_lies_in_the_home_of_settings(tmp_path: Path) -> None:
    path = trust_path({"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "c")})
    assert path == tmp_path / "c" / "reconcile" / "trust.yaml"
    assert trust_path({}) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_not_believed(
    file: Path, environ: dict[str, str], mode: int
) -> None:
    file.chmod(mode)
    with pytest.raises(Refused, match="another user can write it"):
        read_trust(environ)


def test_a_file_in_a_folder_that_others_can_write_is_not_believed(
    file: Path, environ: dict[str, str]
) -> None:
    file.parent.chmod(0o777)
    with pytest.raises(Refused, match="another user can write it"):
        read_trust(environ)


def test_a_file_of_another_user_is_not_believed(
    file: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(Refused, match="another user can write it"):
        read_trust(environ)


def test_a_pipe_is_not_waited_for(file: Path, environ: dict[str, str]) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(Refused, match="not a small file"):
        read_trust(environ)


@pytest.mark.parametrize(
    ("text", "rule", "line"),
    [
        ("version: 1\nhosts: [a.example]\n", "trust/unknown-field", 2),
        ("version: 1\noutside: [state]\n", "trust/value", 2),
        ("version: 1\noutside: ['~/state']\n", "trust/value", 2),
        ("version: 2\n", "trust/value", 1),
        ("allowed_hosts: [a.example]\n", "trust/missing-field", 1),
    ],
)
def test_an_invalid_file_is_reported_at_its_line(
    file: Path, environ: dict[str, str], text: str, rule: str, line: int
) -> None:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_trust(environ)
    [finding] = caught.value.diagnostics
    assert (finding.rule, finding.source.file, finding.source.line) == (rule, str(file), line)


def test_a_file_inside_of_the_project_is_not_believed(
    file: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "reconcile.yaml").write_text(LOCAL)
    with pytest.raises(Refused, match="it lies in the project"):
        load_config(None, start=tmp_path, trust=read_trust(environ))
