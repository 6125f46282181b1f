"""Where a configuration is looked for, and where its paths may lead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.config.project import project_root, search_config
from reconciler.config.reader import load_config
from reconciler.config.settings import Config
from reconciler.config.trust import Trust
from reconciler.errors import InputError, Refused
from tests.support.configurations import LOCAL, production

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
STRANGER = 4242


@pytest.fixture
def outer(tmp_path: Path) -> Path:
    """A folder with a configuration, and a folder ``inner`` in it."""
    (tmp_path / "reconcile.yaml").write_text(LOCAL)
    (tmp_path / "inner").mkdir()
    return tmp_path


# --- the search ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_the_search_ends_at_the_top_of_a_repository(outer: Path, kind: str) -> None:
    inner = outer / "inner"
    (inner / "below").mkdir()
    (inner / ".git").mkdir() if kind == "folder" else (inner / ".git").write_text("gitdir: x\n")
    search = search_config(inner / "below", {})
    assert (search.path, search.reason) == (None, f"{inner} is the top of a repository")
    with pytest.raises(InputError, match="top of a repository"):
        load_config(None, start=inner)
    (inner / "reconcile.yaml").write_text(LOCAL)
    assert search_config(inner / "below", {}).path == inner / "reconcile.yaml"


@as_root
def test_the_search_ends_at_a_folder_of_another_user(outer: Path) -> None:
    os.chown(outer / "inner", STRANGER, -1)
    search = search_config(outer / "inner", {})
    assert search.path is None
    assert f"belongs to another user (number {STRANGER})" in search.reason


@as_root
@pytest.mark.parametrize("name", ["", "reconcile.yaml"])
def test_a_configuration_of_another_user_has_to_be_named(outer: Path, name: str) -> None:
    os.chown(outer / name, STRANGER, -1)
    with pytest.raises(Refused) as caught:
        load_config(None, start=outer)
    assert f"belongs to another user (number {STRANGER})" in str(caught.value)
    assert "--config FILE" in caught.value.hint
    assert load_config(outer / "reconcile.yaml", start=outer).root == outer


@as_root
def test_root_by_sudo_takes_what_belongs_to_the_user(outer: Path) -> None:
    for path in (outer, outer / "reconcile.yaml"):
        os.chown(path, STRANGER, -1)
    environ = {"SUDO_UID": str(STRANGER)}
    assert search_config(outer, environ).path == outer / "reconcile.yaml"
    for odd in ("", "-1", "x", "٣", "9" * 30):
        with pytest.raises(Refused):
            search_config(outer, {"SUDO_UID": odd})


def test_a_configuration_that_is_a_link_out_of_the_project_has_to_be_named(
    outer: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "other.yaml"
    elsewhere.write_text(LOCAL)
    (outer / "reconcile.yaml").unlink()
    (outer / "reconcile.yaml").symlink_to(elsewhere)
    with pytest.raises(Refused, match="it is a link out of the project"):
        load_config(None, start=outer)
    assert load_config(outer / "reconcile.yaml", start=outer).root == outer


def test_the_top_of_a_repository_is_the_project(outer: Path) -> None:
    assert project_root(outer / "inner", {}) == outer / "inner"
    (outer / ".git").mkdir()
    assert project_root(outer / "inner", {}) == outer


@as_root
def test_a_repository_of_another_user_makes_no_project_larger(outer: Path) -> None:
    (outer / ".git").mkdir()
    os.chown(outer / ".git", STRANGER, -1)
    assert project_root(outer / "inner", {}) == outer / "inner"


# --- paths ---------------------------------------------------------------------------------------

Refuse = Callable[[str], list[Any]]
STATE = "    state: {url: '%s'}\n"


@pytest.fixture
def links(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the project, and links into it and within the project."""
    outside = tmp_path_factory.mktemp("outside")
    (tmp_path / "out").symlink_to(outside)
    (tmp_path / "up").symlink_to("..")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "in").symlink_to("..")
    (tmp_path / "loop").symlink_to("loop")
    return outside


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("profiles: ../x\n" + LOCAL, 1),
        ("profiles: /etc\n" + LOCAL, 1),
        ("profiles: out\n" + LOCAL, 1),
        ("profiles: out/not/there\n" + LOCAL, 1),
        ("profiles: up\n" + LOCAL, 1),
        ("profiles: deep/in/../../x\n" + LOCAL, 1),
        ("profiles: not/there/../../../x\n" + LOCAL, 1),
        ("profiles: deep/in/up/x\n" + LOCAL, 1),
        (production("ca_bundle: /etc/ssl/cert.pem"), 7),
        (production("ca_bundle: out/ca.pem"), 7),
        (production(rest=STATE % "sqlite:////var/x.db"), 7),
        (production(rest=STATE % "sqlite:///../x.db"), 7),
        (production(rest=STATE % "sqlite:///out/x.db"), 7),
        (production(rest=STATE % "sqlite:///deep/in/../../x.db"), 7),
        (production(rest=STATE % "sqlite:///up/x.db"), 7),
    ],
)
def test_a_path_out_of_the_project_is_refused_at_its_line(
    links: Path, refused: Refuse, text: str, line: int
) -> None:
    [finding] = refused(text)
    assert (finding.rule, finding.source.line) == ("config/outside", line)
    assert "--allow-outside" in finding.hint
    assert "RECONCILE_ALLOW_OUTSIDE" in finding.hint


@pytest.mark.parametrize(
    "text",
    [
        "profiles: deep/../people\n" + LOCAL,
        "profiles: deep/in/people\n" + LOCAL,
        "profiles: '~/people'\n" + LOCAL,
        "profiles: ..people\n" + LOCAL,
        production("ca_bundle: ca.pem", rest=STATE % "sqlite:///deep/in/x.db"),
        production(rest=STATE % "sqlite:///file:/etc/x.db"),
    ],
)
def test_a_path_that_stays_inside_is_taken(
    links: Path, load: Callable[..., Config], text: str
) -> None:
    load(text)


def test_a_state_by_default_does_not_follow_a_link_outside(
    links: Path, refused: Refuse, tmp_path: Path
) -> None:
    (tmp_path / ".reconcile").symlink_to(links)
    (links / "local.db").write_bytes(b"")
    assert {finding.rule for finding in refused(LOCAL)} == {"config/outside"}


def test_a_path_may_stay_in_the_repository_of_the_configuration(
    tmp_path: Path,
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "reconcile.yaml").write_text("profiles: ../people\n" + LOCAL)
    with pytest.raises(InputError):
        load_config(None, start=tmp_path / "app")
    (tmp_path / ".git").mkdir()
    load_config(None, start=tmp_path / "app")
    load_config(tmp_path / "app" / "reconcile.yaml", start=tmp_path)


def test_a_folder_that_was_allowed_is_taken_and_no_other(
    links: Path, load: Callable[..., Config], tmp_path: Path
) -> None:
    text = "profiles: out/x\n" + LOCAL
    load(text, trust=Trust(outside=(str(links),)))
    load(text, trust=Trust(all_outside=True))
    with pytest.raises(InputError):
        load(text, trust=Trust(outside=(str(links) + "x", str(links / "y"))))


def test_a_kept_configuration_is_checked_as_well(
    links: Path, load: Callable[..., Config], tmp_path: Path
) -> None:
    text = "profiles: out\n" + LOCAL
    load(text, trust=Trust(all_outside=True))
    with pytest.raises(InputError):
        load(text)
    load("profiles: later\n" + LOCAL)
    (tmp_path / "later").symlink_to(links)
    with pytest.raises(InputError):
        load("profiles: later\n" + LOCAL)


@pytest.mark.parametrize(
    ("line", "setting"),
    [("key_env: GITHUB_TOKEN", "key_env"), ("key_env: AWS_SECRET_ACCESS_KEY", "key_env"),
     ("proxy_env: DATABASE_URL", "proxy_env"), ("proxy_env: SENTRY_DSN", "proxy_env")],
)  # fmt: skip
def test_a_variable_with_something_else_is_refused_at_its_line(
    refused: Refuse, line: str, setting: str
) -> None:
    text = production(line)
    [finding] = refused(text)
    assert finding.rule == "config/insecure"
    assert setting in text.splitlines()[finding.source.line - 1]
