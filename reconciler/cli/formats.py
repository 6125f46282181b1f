"""The formats for reviews and builds: Markdown, HTML, and those of GitHub, GitLab, SARIF and JUnit."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from reconciler import __version__
from reconciler.cli.options import OutputOptions
from reconciler.config.buildinfo import build_info
from reconciler.core.rules import load_rules
from reconciler.errors import Diagnostic, UsageError
from reconciler.reports import ci
from reconciler.reports.blame import folder_in_repository
from reconciler.reports.html import plan_html
from reconciler.reports.markdown import LIMIT, diagnostics_markdown, plan_markdown
from reconciler.reports.view import Links, PlanView


def links_to_files(root: Path, base: str | None) -> Links:
    """Links to the files below a folder: to the address that ``--links`` gives, else to the commit that
    a build of GitHub or GitLab names.

    Raises UsageError if that is not an address.
    """
    if base is None:
        base = build_info(os.environ).files_url
    if base and not re.fullmatch(r"https?://[\w.~:/%@+-]+", base, re.ASCII):
        raise UsageError(
            "--links is not an address of files",
            hint="Write it like https://github.com/OWNER/NAME/blob/COMMIT/.",
        )
    if base and not base.endswith("/"):
        base += "/"
    return Links(base or "", folder_in_repository(root))


def plan_in_format(view: PlanView, output: OutputOptions, *, format_: str) -> str:
    """A plan in one of the formats of this module."""
    match format_:
        case "markdown":
            return plan_markdown(view, limit=output.max_bytes, show_requests=output.show_requests)
        case "html":
            return plan_html(view, explained=load_rules())
        case "github":
            return ci.plan_annotations(view)
        case "gitlab":
            return ci.plan_gitlab(view)
        case _:
            raise AssertionError(format_)


def findings_in_format(
    format_: str,
    findings: Sequence[Diagnostic],
    *,
    links: Links | None,
    environment: str,
    documents: int = 0,
    limit: int | None = None,
) -> str:
    """Findings in one of the formats of this module. ``documents``: how many documents were checked;
    ``limit``: the most bytes of Markdown, by default what GitHub takes."""
    match format_:
        case "markdown":
            return diagnostics_markdown(
                findings, environment=environment, links=links, limit=limit or LIMIT
            )
        case "github":
            return ci.diagnostics_annotations(findings, links)
        case "gitlab":
            return ci.diagnostics_gitlab(findings, links)
        case "sarif":
            return ci.diagnostics_sarif(
                findings, version=__version__, explained=load_rules(), links=links
            )
        case "junit":
            return ci.diagnostics_junit(findings, documents=documents)
        case _:
            raise AssertionError(format_)
