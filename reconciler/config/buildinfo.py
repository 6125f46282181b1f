"""The build of GitHub or GitLab that the program runs in, by the build's environment variables. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

BUILD_SIGNS = (
    *(
        "GITHUB_ACTIONS",
        "GITHUB_RUN_ID",
        "GITLAB_CI",
        "CI_PIPELINE_ID",
        "TF_BUILD",
        "BUILD_BUILDID",
    ),
    *("JENKINS_URL", "BUILDKITE", "CIRCLECI", "TRAVIS", "APPVEYOR", "DRONE", "WOODPECKER"),
    *("TEAMCITY_VERSION", "BITBUCKET_BUILD_NUMBER", "CODEBUILD_BUILD_ID", "BUILD_ID", "CIRRUS_CI"),
    *("SEMAPHORE", "GO_PIPELINE_NAME", "CONTINUOUS_INTEGRATION"),
)
"""Variables that systems for builds set, besides CI."""


class BuildInfo(NamedTuple):
    """A build; every field is None where the program runs in none."""

    run: str | None = None
    """Names the build. Another attempt at the same build has another name."""
    url: str | None = None
    """The web address of the build."""
    files_url: str | None = None
    """The web address below which the files of the commit can be read."""


def build_info(environ: Mapping[str, str]) -> BuildInfo:
    """The build that some environment variables describe."""
    return BuildInfo(_run(environ), _url(environ), _files_url(environ))


def is_build(environ: Mapping[str, str]) -> bool:
    """Whether the program runs in a build of any system."""
    signs = ("CI", *BUILD_SIGNS)
    return any(environ.get(name, "").lower() not in ("", "0", "false", "no") for name in signs)


def _run(environ: Mapping[str, str]) -> str | None:
    if run := environ.get("GITHUB_RUN_ID"):
        return f"{run}-{environ.get('GITHUB_RUN_ATTEMPT', '1')}"
    return environ.get("CI_PIPELINE_ID") or None


def _url(environ: Mapping[str, str]) -> str | None:
    if all(name in environ for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")):
        return "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}".format_map(
            environ
        )
    return environ.get("CI_JOB_URL")


def _files_url(environ: Mapping[str, str]) -> str | None:
    if all(environ.get(name) for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_SHA")):
        return "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/blob/{GITHUB_SHA}/".format_map(environ)
    if environ.get("CI_PROJECT_URL") and environ.get("CI_COMMIT_SHA"):
        return "{CI_PROJECT_URL}/-/blob/{CI_COMMIT_SHA}/".format_map(environ)
    return None
