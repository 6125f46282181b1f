"""The Action's own steps, played as a runner would, against a local stand-in of GitHub's API."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.action_runner import (
    ACTION,
    CONFIG,
    JANE,
    PULL,
    ROOT,
    TOKEN,
    Runner,
    Stand,
    commands_of,
    comment,
)
from tests.support.command_line import PROGRAM, environment
from tests.support.places import state_of

NOBODY = 65_534


@pytest.fixture
def stand() -> Iterator[Stand]:
    found = Stand()
    yield found
    found.close()


@pytest.fixture
def runner(tmp_path: Path, stand: Stand) -> Runner:
    return Runner(tmp_path, stand)


def test_a_pull_request_gets_annotations_a_summary_and_one_comment(runner: Runner) -> None:
    code, outputs = runner.run(PULL)
    assert (code, outputs["exit-code"], outputs["changes"]) == (0, "2", "true")
    assert "::notice file=profiles/jane.yaml,line=1,title=create qa-jane::" in runner.log
    (only,) = runner.stand.comments
    assert only["body"].startswith(f"<!-- reconcile:plan:local {outputs['digest']} -->\n")
    assert "](https://github.example/fork/name/blob/f00/profiles/jane.yaml#L2)" in only["body"]
    assert only["body"] in runner.summary
    assert {path.name for path in Path(outputs["folder"]).iterdir()} == {
        "plan.html",
        "plan.json",
        "plan.md",
        "reviewed.plan",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_checkout_of_another_user_is_planned(runner: Runner) -> None:
    for path in (runner.folder, *runner.folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    code, outputs = runner.run(PULL)
    assert (code, outputs["exit-code"]) == (0, "2"), runner.log


def test_values_are_masked_unless_asked_otherwise(runner: Runner) -> None:
    runner.run(PULL)
    assert "Jane" not in runner.log + runner.stand.comments[0]["body"] + runner.summary
    runner.run(PULL, mask="false")
    assert '"Jane"' in runner.stand.comments[0]["body"]


def test_the_comment_is_updated_in_its_place(runner: Runner) -> None:
    runner.stand.comments += [comment(f"talk {number}", number) for number in range(1, 120)]
    runner.run(PULL)
    runner.run(PULL)
    assert len(runner.stand.comments) == 120
    assert not any(call.startswith("PATCH") for call in runner.stand.calls)
    runner.write("profiles/jane.yaml", JANE.replace("FR", "DE"))
    _, outputs = runner.run(PULL)
    assert len(runner.stand.comments) == 120
    assert outputs["digest"] in runner.stand.comments[-1]["body"]


def test_environments_have_a_comment_each(runner: Runner) -> None:
    runner.write(
        "reconcile.yaml", CONFIG + "  other: {api: {url: emulator}}\ndefault_environment: local\n"
    )
    runner.run(PULL)
    runner.run(PULL, environment="other")
    assert [one["body"].split()[1] for one in runner.stand.comments] == [
        "reconcile:plan:local",
        "reconcile:plan:other",
    ]


def test_the_comments_of_others_are_neither_changed_nor_believed(runner: Runner) -> None:
    planted = f"<!-- reconcile:plan:local sha256:{'0' * 64} -->"
    runner.stand.comments.append(comment(planted, 1, author="mallory"))
    _, outputs = runner.run(PULL)
    assert runner.stand.comments[0]["body"] == planted
    runner.stand.pulls = [{"number": 7, "merged_at": "x", "merge_commit_sha": runner.commit}]
    code, applied = runner.run(mode="apply")
    assert (code, applied["digest"]) == (0, outputs["digest"])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_fork_whose_token_may_not_comment_still_gets_its_plan(
    runner: Runner, status: int
) -> None:
    runner.stand.answers = [200, status]
    code, _ = runner.run(PULL)
    assert code == 0
    assert "::notice::this token may not comment" in runner.log
    assert "### Plan for `local`" in runner.summary


def test_a_reading_that_fails_for_a_moment_is_tried_again(runner: Runner) -> None:
    runner.stand.answers = [502, 429]
    assert runner.run(PULL)[0] == 0
    assert len(runner.stand.comments) == 1


def test_a_comment_that_may_have_been_written_is_not_written_twice(runner: Runner) -> None:
    runner.stand.answers = [200, 502]
    assert runner.run(PULL)[0] == 1
    assert [call.split()[0] for call in runner.stand.calls] == ["GET", "POST"]


def test_invalid_files_are_in_the_comment_and_fail_the_job(runner: Runner) -> None:
    runner.write("profiles/bad.yaml", "customer_user_id: bad\nfist_name: x\n")
    code, outputs = runner.run(PULL)
    assert (code, outputs["exit-code"], outputs["digest"]) == (3, "3", "")
    assert "**not valid**" in runner.stand.comments[0]["body"]
    assert "::error file=profiles/bad.yaml,line=2," in runner.log


def test_after_the_merge_exactly_the_reviewed_plan_is_applied(runner: Runner) -> None:
    _, outputs = runner.run(PULL)
    runner.stand.pulls = [
        {"number": 6, "merged_at": None, "merge_commit_sha": runner.commit},
        {"number": 7, "merged_at": "2026-11-26", "merge_commit_sha": runner.commit},
    ]
    code, applied = runner.run(mode="apply")
    assert (code, applied["exit-code"], applied["digest"]) == (0, "0", outputs["digest"])
    assert re.search(r"1 (created|updated|deleted)", runner.log)
    assert "Apply complete" in runner.summary
    code, outputs = runner.run(PULL)
    assert (code, outputs["changes"]) == (0, "false")


def test_the_commit_that_a_plan_compared_with_is_carried_over_the_merge(runner: Runner) -> None:
    fork = runner.commit
    runner.git("checkout", "--quiet", "-b", "feature")
    runner.write("profiles/eve.yaml", JANE.replace("jane", "eve"))
    runner.git.commit("Eve")
    _, outputs = runner.run(PULL, since="main")
    assert outputs["since"] == fork
    assert f" since:{fork} -->" in runner.stand.comments[0]["body"]
    runner.git("checkout", "--quiet", "main")
    runner.git("merge", "--quiet", "--no-ff", "-m", "Merge", "feature")
    runner.commit = runner.git("rev-parse", "HEAD")
    runner.stand.pulls = [{"number": 7, "merged_at": "x", "merge_commit_sha": runner.commit}]
    code, applied = runner.run(mode="apply", since="main")
    assert (code, applied["digest"], applied["since"]) == (0, outputs["digest"], fork)
    assert re.search(r"1 (created|updated|deleted)", runner.log)


def test_a_merge_that_is_not_what_was_reviewed_is_refused(runner: Runner) -> None:
    runner.run(PULL)
    runner.stand.pulls = [{"number": 7, "merged_at": "x", "merge_commit_sha": runner.commit}]
    runner.write("profiles/jane.yaml", JANE.replace("FR", "DE"))
    code, outputs = runner.run(mode="apply")
    assert (code, outputs["exit-code"]) == (6, "6")
    assert not state_of(runner.folder).exists()


def test_the_options_of_plan_and_apply_belong_to_the_digest(runner: Runner) -> None:
    _, outputs = runner.run(PULL, options="--select=qa-*\n\n  --prune  \n")
    assert runner.run(mode="apply", digest=outputs["digest"])[0] == 6
    assert (
        runner.run(mode="apply", digest=outputs["digest"], options="--select=qa-*\n--prune")[0] == 0
    )


@pytest.mark.parametrize(
    "pulls",
    [
        [],
        [{"number": 7, "merged_at": "x"}, {"number": 8, "merged_at": "x"}],
        [{"number": 9, "merged_at": "x"}],
    ],
)
def test_without_one_reviewed_digest_nothing_is_applied(runner: Runner, pulls: list[Any]) -> None:
    runner.stand.pulls = pulls
    assert runner.run(mode="apply")[0] == 1
    assert "::error::no reviewed digest" in runner.log
    assert not state_of(runner.folder).exists()


def test_inputs_are_data(runner: Runner) -> None:
    hostile = '$(touch hacked); `touch hacked` "; touch hacked #'
    for inputs in (
        {"environment": hostile},
        {"options": hostile},
        {"since": hostile},
        {"state_url": hostile},
        {"mode": "apply", "digest": hostile},
    ):
        code, _ = runner.run(PULL, **inputs)
        assert code != 0
    assert list(runner.folder.rglob("hacked")) == []


def test_an_input_that_is_no_digest_adds_no_output(runner: Runner) -> None:
    for tail in ("\nsince=f00", "\nfolder<<x\n/etc\nx", " f00", f" {'f' * 40}\nchanges=true"):
        code, outputs = runner.run(mode="apply", digest=f"sha256:{'0' * 64}{tail}")
        assert (code, set(outputs.values())) == (64, {""})
    assert "::error::digest is" in runner.log


def test_an_output_ends_where_its_value_ends(runner: Runner) -> None:
    values = ["", "a=b", "a\nb=c", "a\nend-0\nb<<c\nd\nc"]
    for value in values:
        step = {
            "shell": "bash",
            "run": '. "$GITHUB_ACTION_PATH/ci/common.sh"; output name "$VALUE"',
        }
        assert runner.play(step, {"VALUE": value}) == (0, {"name": value})


@pytest.mark.parametrize("text", ["::error::x", "##[add-mask]x", "x ##[set-output name=digest]x"])
def test_the_log_obeys_nothing_but_annotations(runner: Runner, text: str) -> None:
    runner.profile("jane", JANE.replace("Jane", f'"{text}"'))
    code, outputs = runner.run(PULL, mask="false")
    assert (code, outputs["changes"]) == (0, "true")
    annotations = commands_of(runner.log)
    assert annotations
    assert all(line.startswith("::notice file=profiles/jane.yaml,") for line in annotations)
    assert not any("##[" in line for line in annotations)
    code, _ = runner.run(mode="apply", digest=outputs["digest"], mask="false")
    assert (code, commands_of(runner.log)) == (0, [])
    runner.run(PULL, environment=text)
    assert "there is no environment" in runner.log
    assert not any("##[" in line or text in line for line in commands_of(runner.log))


@pytest.mark.parametrize(
    "text", ["::error::x", "##[error]x", "::stop-commands::x\n::x::\n::error::y", ""]
)
def test_messages_are_shown_as_data(runner: Runner, text: str) -> None:
    script = (
        '. "$GITHUB_ACTION_PATH/ci/common.sh"; printf %s "$TEXT" | show; echo "::notice::after"'
    )
    assert runner.play({"shell": "bash", "run": script}, {"TEXT": text}) == (0, {})
    assert text in runner.log
    assert commands_of(runner.log) == ["::notice::after"]


def test_drift_fails_the_job_and_shows_what_differs(runner: Runner) -> None:
    runner.write("profiles/jane.yaml", JANE + "custom_attributes: {tier: gold}\n")
    _, outputs = runner.run(PULL)
    runner.run(mode="apply", digest=outputs["digest"])
    assert runner.run(mode="drift")[0] == 0
    from reconciler.emulator import Emulator

    api = Emulator(db=state_of(runner.folder, "emulator.db", environ={"HOME": str(runner.temp)}))
    headers = {
        "adapty-customer-user-id": "qa-jane",
        "Authorization": "Api-Key k",
        "Content-Type": "application/json",
    }
    body = b'{"custom_attributes": [{"key": "tier", "value": "tin"}]}'
    api.handle("PATCH", "/api/v2/server-side-api/profile/", headers=headers, body=body)
    api.close()
    code, outputs = runner.run(mode="drift")
    assert (code, outputs["exit-code"]) == (1, "2")
    assert "custom_attributes.tier" in runner.summary


def test_a_folder_below_the_root_is_named_from_the_root(runner: Runner) -> None:
    (runner.folder / "apps").mkdir()
    for name in ("reconcile.yaml", "profiles"):
        (runner.folder / name).rename(runner.folder / "apps" / name)
    runner.run(PULL, working_directory="apps")
    assert "::notice file=apps/profiles/jane.yaml,line=1," in runner.log


def test_the_token_is_in_no_log_and_no_summary(runner: Runner) -> None:
    runner.run(PULL)
    runner.stand.answers = [500] * 9
    runner.run(PULL)
    assert TOKEN not in runner.log + runner.summary


# --- what is written in the files ----------------------------------------------------------------


def test_every_input_comes_through_a_variable() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), step["name"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples" / "ci").glob("*.yml")), ids=lambda p: p.name
)
def test_the_workflows_name_inputs_that_there_are(path: Path) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    for job in content.get("jobs", {}).values():
        for step in job["steps"]:
            if step.get("uses") == "OWNER/reconcile@COMMIT":
                assert set(step.get("with", {})) <= set(ACTION["inputs"])


def test_the_hooks_call_commands_that_there_are() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    for hook in hooks:
        command = hook["entry"].removeprefix("python -I -m reconciler ")
        done = subprocess.run([*PROGRAM, command, "--help"], cwd=ROOT, env=environment())
        assert done.returncode == 0
