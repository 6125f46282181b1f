"""The build of GitHub or GitLab, by its environment variables."""

from __future__ import annotations

import pytest

from reconciler.config.buildinfo import BuildInfo, build_info

GITHUB = {
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "acme/profiles",
    "GITHUB_RUN_ID": "7",
    "GITHUB_SHA": "abc",
}
GITLAB = {
    "CI_PIPELINE_ID": "8",
    "CI_JOB_URL": "https://gitlab.com/acme/profiles/-/jobs/9",
    "CI_PROJECT_URL": "https://gitlab.com/acme/profiles",
    "CI_COMMIT_SHA": "def",
}


def test_a_build_of_github() -> None:
    assert build_info(GITHUB) == BuildInfo(
        run="7-1",
        url="https://github.com/acme/profiles/actions/runs/7",
        files_url="https://github.com/acme/profiles/blob/abc/",
    )


def test_another_attempt_at_a_build_of_github_is_another_run() -> None:
    assert build_info({**GITHUB, "GITHUB_RUN_ATTEMPT": "2"}).run == "7-2"


def test_a_build_of_gitlab() -> None:
    assert build_info(GITLAB) == BuildInfo(
        run="8",
        url="https://gitlab.com/acme/profiles/-/jobs/9",
        files_url="https://gitlab.com/acme/profiles/-/blob/def/",
    )


@pytest.mark.parametrize("environ", [{}, {"CI": "true"}, {"GITHUB_SHA": "", "CI_PIPELINE_ID": ""}])
def test_without_the_variables_of_a_build_nothing_is_known(environ: dict[str, str]) -> None:
    assert build_info(environ) == BuildInfo()
