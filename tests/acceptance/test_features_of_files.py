"""Every feature of profile files: read cold and warm, in one process and in several, with the same bytes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.plan_format import to_lines
from reconciler.errors import InputError
from reconciler.planning.limits import Limits
from reconciler.planning.processes import ProcessExecutor
from reconciler.reports.masking import Mask
from reconciler.reports.plan_text import plan_text
from reconciler.reports.tally import Tally
from reconciler.reports.view import PlanView
from reconciler.workspace.facade import Workspace
from reconciler.workspace.plans import PlanRequest
from tests.support.git import Git
from tests.support.places import config_cache_of
from tests.support.projects import Project

LIMITS = Limits(
    processors=2,
    files_per_batch=1,
    bytes_per_process=1,
    profiles_per_batch=2,
    profiles_per_process=1,
    profiles_held=1,
    changes_held=1,
    racy_ns=-(10**10),
)
"""The smallest files and plans are worth another process."""
CONFIG = {
    "version": 1,
    "env_prefix": "QA_",
    "fake_seed": "7",
    "variables": {"tier": "gold"},
    "personal_data": {"guard": "warn"},
    "environments": {"local": {"api": {"url": "emulator"}}},
}
PLAIN = {f"p{number}": f"customer_user_id: p{number}\nfirst_name: P\n" for number in range(6)}
FEATURES: Mapping[str, Mapping[str, str]] = {
    "plain profiles": {},
    "several documents": {"many": "---\n".join(f"customer_user_id: d{n}\n" for n in range(9))},
    "defaults": {"_defaults": "last_name: Doe\n", "x/_defaults": "store: app_store\n"},
    "defaults with attributes and meta": {
        "_defaults": "custom_attributes: {tier: gold}\nmeta: {labels: [qa], ttl: 3d}\n",
        "x/a": "customer_user_id: a\ncustom_attributes: [{key: b, value: 1}]\n",
    },
    "defaults with placeholders": {"x/_defaults": "last_name: '${var.tier}-{run}'\n"},
    "defaults with an error": {"x/_defaults": "last_nam: Doe\n"},
    "templates": {
        "made": "for_each: 5\ncustomer_user_id: 'm-{index:02}'\nfirst_name: 'N{index}'\n"
    },
    "templates over maps": {
        "made": "for_each: [{n: a, v: 1}, {n: b, v: true}]\n"
        "customer_user_id: 'm-{item.n}'\ncustom_attributes: {v: '{item.v}'}\n"
    },
    "templates over defaults": {
        "_defaults": "last_name: 'N{index}'\n",
        **{name: f"for_each: 2\ncustomer_user_id: '{name}-{{index}}'\n" for name in PLAIN},
    },
    "placeholders": {
        "v": "customer_user_id: 'v-{run}-{worker}'\nfirst_name: '${var.tier}'\nlast_name: '${env.QA_X}'\n"
    },
    "placeholders that stand for nothing": {
        "v": "customer_user_id: v\nfirst_name: '${var.teir}'\nlast_name: '${env.HOME}'\n"
    },
    "data that is made up": {
        "v": "for_each: 4\ncustomer_user_id: 'v-{index}'\nfirst_name: '{fake.first_name}'\n"
    },
    "links": {
        "link": "-> x/inner.yml",
        "x/inner.yml": "-> ../.hidden.yaml",
        ".hidden": "last_name: Doe\n---\ncustomer_user_id: h\n",
    },
    "a link to a hidden file": {"link": "-> x/.h.yaml", "x/.h": "customer_user_id: h\n"},
    "links that lead nowhere": {"link": "-> nowhere.yaml"},
    "warnings": {"w": "customer_user_id: w\nbirthday: 2000-12-31\nemail: jane@gmail.com\n"},
    "errors": {"e": "customer_user_id: e\nfrist_name: E\n", "f": "- a list\n", "g": "a: [\n"},
    "claims of the same": {"c": "customer_user_id: p1\n", "x/d": "customer_user_id: p1\n"},
    "one device": {
        name: f"customer_user_id: {name}\ninstallation_meta: {{device_id: "
        "3fa85f64-5717-4562-b3fc-2c963f66afa6}\n"
        for name in ("c", "x/d")
    },
    "odd text": {
        "o": "customer_user_id: 'o \u202e\u00e9'\nfirst_name: \"A\\u0000\\ud83d\\ude00\"\n"
    },
    "large numbers": {
        "n": "customer_user_id: n\ncustom_attributes: {a: 123456789012345678901234567890, b: 1.0e+300}\n"
    },
    "lifetimes and protection": {
        "l": "customer_user_id: l\nmeta: {expires: '2020-01-01T00:00:00Z', protect: true}\n"
    },
    "attributes that no file declares": {
        "l": "customer_user_id: l\nmeta: {exclusive: [custom_attributes]}\n"
    },
    "fields to forget": {"l": "customer_user_id: l\nmeta: {forget: [email]}\n"},
}


class Watched(ProcessExecutor):
    """Processes of which no call may fail: the pool would hide it by doing the work itself."""

    def __init__(self) -> None:
        super().__init__(1)
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.futures.append(super().submit(fn, *args, **kwargs))
        return self.futures[-1]


class Processes:
    """Makes such executors, and checks them in the end."""

    def __init__(self) -> None:
        self.made: list[Watched] = []

    def __call__(self) -> Executor:
        self.made.append(Watched())
        return self.made[-1]

    def check(self) -> None:
        futures = [future for executor in self.made for future in executor.futures]
        assert futures
        assert [each for each in futures if each.exception(timeout=0) is not None] == []


def arrange(folder: Path, feature: Mapping[str, str]) -> None:
    project = Project(folder, CONFIG)
    config_cache_of(folder).parent.mkdir(parents=True, exist_ok=True)
    for name, text in {**PLAIN, "x/q": "customer_user_id: q\n", **feature}.items():
        path = folder / "profiles" / (name if name.endswith(".yml") else f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text, "utf-8")
    git = Git(folder)
    project.write(".gitignore", ".reconcile\n")
    git.commit("all")


def everything_said(folder: Path, *, pool: Callable[[], Executor] | None, cache: bool) -> list[str]:
    """What a plan says: findings, lines, and the report with authors and masks."""
    findings: list[Any] = []
    with Workspace.open(
        start=folder,
        limits=LIMITS,
        pool=pool,
        cache=cache,
        environ={"QA_X": "x"},
        run="r1",
        now=lambda: 1_800_000_000.0,
    ) as workspace:
        checked = workspace.validate()
        said = [repr(each) for each in (checked.documents, *checked.diagnostics)]
        try:
            plan, tally = workspace.plans.make(PlanRequest(on_findings=findings.extend), Tally())
        except InputError as problem:
            return [*said, *map(repr, (problem.message, *problem.diagnostics))]
        blame = workspace.blame(plan)
        view = PlanView.of(plan, tally=tally, blame=blame)
        masked = Mask(workspace.contract, ()).plan(plan)
        return [
            *said,
            *map(repr, findings),
            *to_lines(plan),
            plan_text(view, color=False, show_requests=True),
            plan_text(PlanView.of(masked, blame=blame), color=False),
            *map(repr, workspace.declared),
        ]


@pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES)
def test_a_feature_is_the_same_cold_and_warm_in_one_process_and_several(
    tmp_path: Path, feature: Mapping[str, str]
) -> None:
    arrange(tmp_path, feature)
    expected = everything_said(tmp_path, pool=None, cache=False)
    processes = Processes()
    assert everything_said(tmp_path, pool=processes, cache=False) == expected
    assert everything_said(tmp_path, pool=processes, cache=True) == expected  # writes the index
    processes.check()
    assert everything_said(tmp_path, pool=processes, cache=True) == expected
    assert everything_said(tmp_path, pool=None, cache=True) == expected
    processes.check()


@pytest.fixture
def deep_folder(tmp_path: Path) -> Iterator[Path]:
    """A temporary folder that is removed by a program which does not recurse: pytest's own clean-up would."""
    yield tmp_path
    subprocess.run(["rm", "-rf", str(tmp_path / "profiles" / "d")], check=True)


def test_a_profile_lies_more_than_a_thousand_folders_deep(deep_folder: Path) -> None:
    tmp_path = deep_folder
    project = Project(tmp_path, CONFIG, profiles=PLAIN)
    project.profile("_defaults", "last_name: Doe\n")
    folder = os.open(tmp_path / "profiles", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    for name, text in (
        ("_defaults.yaml", "store: app_store\n"),
        ("p.yaml", "customer_user_id: p\n"),
    ):
        with open(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder), "w") as file:
            file.write(text)
    os.close(folder)
    expected = project.plan("--no-cache")
    assert expected["changes"][0]["address"] == "p"
    assert {field["path"] for field in expected["changes"][0]["fields"]} == {"last_name", "store"}
    assert project.plan() == expected == project.plan()
    assert project.run("validate", "profiles")
