"""Commands on profile files, offline: init, validate, render, fmt."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from reconciler.authoring.yaml_writer import profile_yaml
from reconciler.cli.app import App
from reconciler.cli.outputs import is_standard_input, read_input, result_stream, write_file
from reconciler.cli.render import findings_text, links_for, warn
from reconciler.cli.streams import print_document, print_result, stderr_line, write
from reconciler.commands import CONFIG_NAME, Command, file_argument, quoted
from reconciler.config.protected import refuse_link_out
from reconciler.config.template import TEMPLATE
from reconciler.errors import ExitCode, Refused
from reconciler.reports.text import difference_of_texts
from reconciler.reports.wording import count
from reconciler.resources import schema_text
from reconciler.values import shown, spelled
from reconciler.workspace.results import Formatted

_FOR_EDITORS = "# yaml-language-server: $schema=schemas/config.schema.json\n"
_STANDARD_INPUT = "-"
"""The name of a text from standard input in findings."""
_SCHEMAS = ("profile.schema", "config.schema")
"""Schemas that editors check a project's files by."""
_EXAMPLE = """\
# yaml-language-server: $schema=../schemas/profile.schema.json
customer_user_id: qa-jane
first_name: Jane
email: jane.doe@example.com
custom_attributes:
  favourite_sport: yoga
meta:
  labels: [qa]
"""


def init(app: App, *, folder: Path) -> None:
    """Writes a configuration, a first profile, the schemas by which editors check them, and the lines of
    .gitignore that are missing.

    Raises Refused if there is a configuration.
    """
    config = folder / CONFIG_NAME
    if config.exists():
        raise Refused(f"{config} exists already; nothing was written", hint="Edit it instead.")
    profiles, ignore = folder / "profiles", folder / ".gitignore"
    schemas = {folder / "schemas" / f"{name}.json": name for name in _SCHEMAS}
    for path in (config, profiles / "jane.yaml", ignore, *schemas):
        refuse_link_out(path, folder)
    profiles.mkdir(parents=True, exist_ok=True)
    config.write_text(_FOR_EDITORS + TEMPLATE, "utf-8")
    print_result(f"wrote {shown(str(config))}")
    for path, name in schemas.items():
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(schema_text(name), "utf-8")
            print_result(f"wrote {shown(str(path))}")
    if not any(profiles.iterdir()):
        (profiles / "jane.yaml").write_text(_EXAMPLE, "utf-8")
        print_result(f"wrote {shown(str(profiles / 'jane.yaml'))}")
    present = ignore.read_bytes() if ignore.exists() else b""
    missing = [line for line in (b".reconcile/", b"*.plan") if line not in present.splitlines()]
    if missing:
        separator = b"" if present.endswith((b"\n", b"\r")) or not present else b"\n"
        ignore.write_bytes(present + separator + b"\n".join(missing) + b"\n")
        print_result(f"wrote {shown(str(ignore))}")
    change_folder = (
        "" if folder.resolve() == Path.cwd() else f"cd {quoted(file_argument(str(folder)))} && "
    )
    print_result(f"next: {change_folder}{Command.of('plan').text()}")


def validate(
    app: App,
    *,
    paths: Sequence[Path],
    format_: str,
    json_out: Path | None,
    strict: bool,
    everything: bool,
    links: str | None,
    mask: bool | None,
) -> int:
    """Prints the findings of profile files."""
    with app.workspace(mask=mask) as workspace:
        stream = result_stream(json_out, workspace.config, format_=format_)
        if is_standard_input(paths):
            checked = workspace.sources.validate_text(read_input(paths[0]), _STANDARD_INPUT)
        else:
            checked = workspace.validate(paths)
        file_links = links_for([format_], workspace.config.root, base=links)
        environment = workspace.environment.name
    findings = app.findings(checked.diagnostics)

    def in_format(format_: str) -> str:
        return findings_text(
            format_,
            findings,
            links=file_links,
            environment=environment,
            documents=checked.documents,
        )

    if json_out is not None:
        write_file(json_out, [in_format("json")])
    if format_ != "text":
        print_document([in_format(format_)], stream=stream)
    elif findings:
        write(stream, app.findings_text(findings, stream=stream, everything=everything))
    if format_ == "text" and checked.valid:
        write(stream, f"{count(checked.documents, 'profile')} valid.\n")
    if strict and findings and checked.valid:
        stderr_line("error: there are warnings, and --strict fails for them")
    return ExitCode.DONE if checked.valid and not (strict and findings) else ExitCode.INVALID


def render(
    app: App,
    *,
    paths: Sequence[Path],
    select: Sequence[str],
    exclude: Sequence[str],
    format_: str,
    json_out: Path | None,
    mask: bool | None,
) -> None:
    """Prints profile files with their defaults, templates and placeholders filled in."""
    with app.workspace(mask=mask) as workspace:
        stream = result_stream(json_out, workspace.config, format_=format_)
        documents = list(workspace.render(paths, select=select, exclude=exclude))

    def data() -> str:
        return spelled(
            [
                {
                    "address": profile.address,
                    "source": {"file": profile.source.file, "line": profile.source.line},
                    "template": profile.template or None,
                    "document": app.document(document.value, hidden=document.environment),
                }
                for profile, document in documents
            ],
            indent=2,
        )

    if json_out is not None:
        write_file(json_out, [data() + "\n"])
    if format_ == "json":
        print_result(data())
        return
    print_document(
        [
            f"---\n{profile_yaml(document, partial(app.member, hidden=document.environment))}"
            for _, document in documents
        ],
        stream=stream,
    )


def fmt(app: App, *, paths: Sequence[Path], check: bool, diff: bool) -> int:
    """Puts profile files in canonical form, or prints what would change."""
    with app.workspace() as workspace:
        if is_standard_input(paths):
            before, after = workspace.sources.format_text(read_input(paths[0]), _STANDARD_INPUT)
            changes = [(_STANDARD_INPUT, before, after)] if before != after else []
            formatted = Formatted(tuple(changes), (), 1)
            if not (check or diff):
                print_document([after])
                return ExitCode.DONE
        else:
            formatted = workspace.format(paths, write=not (check or diff))
    verb = "would format" if check or diff else "formatted"
    for name, before, after in formatted.changed:
        if diff and app.mask is None:
            color = app.uses_color(sys.stdout)
            print_result(difference_of_texts(name, before=before, after=after, color=color))
        else:
            print_result(f"{verb} {shown(name)}")
    if formatted.diagnostics:
        warn(app, formatted.diagnostics)
    rest = formatted.files - len(formatted.changed)
    participle = "to format" if check or diff else "formatted"
    changed = count(len(formatted.changed), "file")
    app.note(f"{changed} {participle}, {rest:,} left as they are.")
    if formatted.diagnostics:
        return ExitCode.INVALID
    return ExitCode.FAILED if check and formatted.changed else ExitCode.DONE
