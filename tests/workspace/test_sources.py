"""Defaults, templates and variables through the whole pipeline, cold and warm."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import InputError, UsageError, Workspace
from reconciler.core.plan_format import encode
from reconciler.core.record_codec import encode_export
from tests.support.places import HOMES
from tests.support.projects import Project

Write = Callable[[str, str], Path]
CONFIG = """\
version: 1
env_prefix: QA_
default_environment: local
variables: {tier: gold}
environments:
  local: {api: {url: emulator}}
  other: {api: {url: emulator}, variables: {tier: silver}, state: {url: 'sqlite:///.reconcile/o.db'}}
"""
USERS = "for_each: 3\ncustomer_user_id: u-{index}\ncustom_attributes: {tier: '${var.tier}'}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Project(tmp_path, CONFIG, profiles={"qa/users": USERS}).folder


def plan_of(folder: Path, env: str | None = None, **options: Any) -> dict[str, Any]:
    with Workspace.open(start=folder, env=env, **{"environ": {}, **options}) as workspace:
        return encode(workspace.plan())


def fields(plan: dict[str, Any], address: str) -> dict[str, Any]:
    (change,) = [each for each in plan["changes"] if each["address"] == address]
    return {field["path"]: field["after"] for field in change["fields"]}


def errors_of(folder: Path, **options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        plan_of(folder, **options)
    return [f"{each.source}: {each.message}" for each in caught.value.diagnostics]


def test_environments_have_their_own_variables(folder: Path) -> None:
    assert fields(plan_of(folder), "u-1") == {"custom_attributes.tier": "gold"}
    assert fields(plan_of(folder, "other"), "u-1") == {"custom_attributes.tier": "silver"}


def test_each_field_of_a_plan_names_its_file(folder: Path, write: Write) -> None:
    write("profiles/_defaults.yaml", "\nstore: app_store\n")

    change = plan_of(folder)["changes"][0]

    assert change["source"] == {"file": "profiles/qa/users.yaml", "line": 1}
    assert change["template"] == "u-{index}"
    places = {each["path"]: (each.get("file"), each["line"]) for each in change["fields"]}
    assert places == {
        "store": ("profiles/_defaults.yaml", 2),
        "custom_attributes.tier": (None, 3),
    }


def test_defaults_of_deeper_folders_win(folder: Path, write: Write) -> None:
    write("profiles/_defaults.yaml", "store: app_store\nfirst_name: A\nlast_name: B\n")
    write("profiles/qa/_defaults.yaml", "first_name: null\nlast_name: C\n")

    assert fields(plan_of(folder), "u-2") == {
        "last_name": "C",
        "store": "app_store",
        "custom_attributes.tier": "gold",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "customer_user_id: a\n",
            "1:1: `customer_user_id` cannot be the same for all profiles of a folder",
        ),
        ("for_each: 2\n", "1:1: `for_each` cannot be the same for all profiles of a folder"),
        ("emal: a\n", '1:1: unknown field "emal"'),
        (
            "birthday: 2000-02-31\n",
            '1:1: `birthday` is "2000-02-31", which is not a date of the calendar',
        ),
        ("", ": the file holds no document"),
        ("a: b\n---\na: b\n", "3:1: this file must hold one document, found 2"),
    ],
)
def test_an_error_in_defaults_is_reported_once(
    folder: Path, write: Write, text: str, problem: str
) -> None:
    write("profiles/_defaults.yaml", text)

    found = [each for each in errors_of(folder) if "ambiguous" not in each and "quotes" not in each]

    mark = "" if problem.startswith(":") else ":"
    assert f"profiles/_defaults.yaml{mark}{problem}" in found
    assert len([each for each in found if "text here" not in each]) == 1


def test_defaults_need_not_be_a_whole_profile(folder: Path, write: Write) -> None:
    write("profiles/_defaults.yaml", "installation_meta: {locale: en}\n")
    write(
        "profiles/qa/users.yaml",
        "customer_user_id: a\n"
        "installation_meta: {device_id: 3fa85f64-5717-4562-b3fc-2c963f66afa6}\n",
    )

    assert fields(plan_of(folder), "a")["installation_meta.locale"] == "en"


def test_a_misspelled_name_of_the_defaults_file_is_an_error(folder: Path, write: Write) -> None:
    write("profiles/_defaults.yml", "customer_user_id: x\n")

    assert errors_of(folder) == [
        "profiles/_defaults.yml: this file is read as profiles, not as defaults"
    ]


def test_a_run_that_cannot_be_part_of_a_name_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a run"):
        plan_of(folder, run="a b")


def test_a_run_is_named_after_the_build(folder: Path, write: Write) -> None:
    write("profiles/qa/users.yaml", "customer_user_id: u-{run}\n")
    for environ, name in (
        ({"GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "2"}, "u-7-2"),
        ({"CI_PIPELINE_ID": "8"}, "u-8"),
    ):
        assert plan_of(folder, environ=environ)["changes"][0]["address"] == name
    assert plan_of(folder, run="mine")["changes"][0]["address"] == "u-mine"


def test_the_finding_about_two_templates_with_one_name_has_both_places(
    folder: Path, write: Write
) -> None:
    write("profiles/z.yaml", "customer_user_id: u-2\n")

    assert errors_of(folder) == [
        'profiles/z.yaml:1:1: `customer_user_id` "u-2" is declared twice, first at '
        "profiles/qa/users.yaml:2:1"
    ]


def test_render_prints_the_same_bytes_each_time_and_names_the_sources(
    folder: Path, write: Write
) -> None:
    from reconciler.authoring.yaml_writer import profile_yaml

    write("profiles/_defaults.yaml", "store: app_store\n")

    def rendered() -> list[str]:
        with Workspace.open(start=folder, environ={}) as workspace:
            return [profile_yaml(document) for _, document in workspace.render(select=["u-[12]"])]

    assert rendered() == rendered()
    assert rendered()[1] == (
        "# profiles/qa/users.yaml:1  u-{index}\n"
        "customer_user_id: u-2\n"
        "custom_attributes:\n"
        "  tier: gold\n"
        "store: app_store  # profiles/_defaults.yaml:1\n"
    )


def test_rendered_documents_give_the_same_plan_as_the_files(
    folder: Path, write: Write, tmp_path: Path
) -> None:
    from reconciler.authoring.yaml_writer import profile_yaml

    write("profiles/_defaults.yaml", "store: app_store\nmeta: {labels: [qa], ttl: 2h}\n")
    with Workspace.open(start=folder, environ={}) as workspace:
        text = "---\n".join(profile_yaml(document) for _, document in workspace.render())
    before = plan_of(folder)
    shutil.rmtree(folder / "profiles")
    write("profiles/all.yaml", text)

    after = plan_of(folder)

    def requests(plan: dict[str, Any]) -> list[Any]:
        return [(each["address"], each["requests"], each["labels"]) for each in plan["changes"]]

    assert requests(before) == requests(after)


def test_validating_one_file_applies_the_defaults_of_the_folders_above(
    folder: Path, write: Write
) -> None:
    write("profiles/_defaults.yaml", "store: app_store\n")

    with Workspace.open(start=folder, environ={}) as workspace:
        checked = workspace.validate([folder / "profiles" / "qa" / "users.yaml"])
        alone = workspace.validate([folder / "profiles" / "_defaults.yaml"])

    assert [profile.values["store"] for profile in checked.profiles] == ["app_store"] * 3
    assert alone.valid
    assert alone.documents == 0


# --- warm is cold --------------------------------------------------------------------------------

DEFAULTS = st.sampled_from(
    [
        None,
        "store: app_store\n",
        "store: play_store\n",
        "last_name: '${var.tier}'\n",
        "last_name: '{index}'\n",
    ]
)
FILES = st.sampled_from(
    [
        None,
        "customer_user_id: a\n",
        "customer_user_id: a\nstore: null\n",
        "customer_user_id: d\nemail: jane@gmail.com\n",
        USERS,
        "for_each: 2\ncustomer_user_id: u-{index}-{run}\n",
        "customer_user_id: b-{worker}\nemail: 'x@${env.QA_DOMAIN}'\n",
        "customer_user_id: c\nfirst_name: '{fake.first_name}'\n",
    ]
)
STEPS = st.fixed_dictionaries(
    {},
    optional={
        "profiles/_defaults.yaml": DEFAULTS,
        "profiles/x/_defaults.yaml": DEFAULTS,
        "profiles/x/y/_defaults.yaml": DEFAULTS,
        "profiles/p.yaml": FILES,
        "profiles/x/p.yaml": FILES,
        "profiles/x/y/p.yaml": FILES,
        "run": st.sampled_from([None, "r1", "r2"]),
        "worker": st.sampled_from([None, "gw0"]),
        "tier": st.sampled_from(["gold", "silver"]),
        "seed": st.sampled_from(["", "other"]),
        "QA_DOMAIN": st.sampled_from([None, "example.com", "example.org"]),
        "guard": st.sampled_from(["off", "error"]),
        "apply": st.just(True),
    },
)


@settings(deadline=None, max_examples=40)
@given(steps=st.lists(STEPS, min_size=2, max_size=6))
def test_after_any_change_a_warm_plan_equals_a_cold_plan(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("warm")
    (folder / "profiles/x/y").mkdir(parents=True)
    now: dict[str, Any] = {"profiles/p.yaml": "customer_user_id: always\n"}

    def outcome(*, cache: bool) -> Any:
        environ = {name: os.environ[name] for name in HOMES}
        if now.get("QA_DOMAIN"):
            environ["QA_DOMAIN"] = now["QA_DOMAIN"]
        with Workspace.open(
            start=folder,
            environ=environ,
            run=now.get("run"),
            worker=now.get("worker"),
            cache=cache,
        ) as workspace:
            try:
                made = workspace.plan()
            except InputError as problem:
                return [str(each) for each in problem.diagnostics]
            if not cache and now.pop("apply", False):
                workspace.apply(made)
            return encode(made), encode_export(workspace.export())["serial"] if cache else None

    for step in steps:
        now |= step
        for name, text in now.items():
            if not name.startswith("profiles/"):
                continue
            path = folder / name
            if text is None:
                path.unlink(missing_ok=True)
            elif not path.exists() or path.read_text("utf-8") != text:
                path.write_text(text, "utf-8")
                os.utime(path, ns=(1, 1))  # an old file: only its digest and its means can tell
        config = {
            "version": 1,
            "env_prefix": "QA_",
            "variables": {"tier": now.get("tier", "gold")},
            "fake_seed": now.get("seed", ""),
            "personal_data": {"guard": now.get("guard", "off")},
            "environments": {"local": {"api": {"url": "emulator"}}},
        }
        Project(folder, config)
        warm, cold = outcome(cache=True), outcome(cache=False)
        assert (warm[0] if isinstance(warm, tuple) else warm) == (
            cold[0] if isinstance(cold, tuple) else cold
        )
