"""``trust.yaml`` in the user's configuration folder: what is allowed for good. An edge."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.authoring.json_schema import validate_value
from reconciler.authoring.loader import parse_yaml
from reconciler.config.hosts import parse_hosts
from reconciler.config.project import users
from reconciler.config.trust import Trust, parse_states, trust_of
from reconciler.errors import Diagnostic, InputError, Refused, error
from reconciler.homes import config_home
from reconciler.resources import load_schema
from reconciler.systems import open_flags

FILE_NAME = "trust.yaml"
_MAX_BYTES = 64 * 1024


def trust_path(environ: Mapping[str, str]) -> Path | None:
    """Where a user's trust is: in the home of the user's settings. ``None`` if there is no such home."""
    home = config_home(environ)
    return None if home is None else home / FILE_NAME


def read_trust(environ: Mapping[str, str], **options: Any) -> Trust:
    """What the environment, the options of the command line and the user's file allow. ``options`` are those
    of `trust_of`. Hosts of all of them count; of prefixes, that of the file counts last.

    Raises UsageError for an invalid variable or option, InputError for an invalid file, Refused for a file
    that another user can write.
    """
    trust = trust_of(environ, **options)
    path = trust_path(environ)
    text = None if path is None else _read(path, environ)
    if path is None or text is None:
        return trust
    content = _parsed(path, text)
    return trust._replace(
        hosts=(
            *trust.hosts,
            *parse_hosts(" ".join(content.get("allowed_hosts", ())), where=str(path)),
        ),
        env_prefix=trust.env_prefix or content.get("env_prefix"),
        outside=tuple(content.get("outside", ())),
        states=(*trust.states, *parse_states(content.get("allowed_states", ()))),
        commands=(*trust.commands, *map(shlex.join, content.get("allowed_commands", ()))),
        file=str(path),
    )


def _read(path: Path, environ: Mapping[str, str]) -> bytes | None:
    """The content of the file; ``None`` where there is none."""
    ours = users(environ)
    try:
        fd = os.open(path, open_flags("O_RDONLY", "O_NONBLOCK"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise Refused(
            f"{path} cannot be read: {problem.strerror}", hint="Make it readable, or remove it."
        ) from None
    try:
        for status in (os.fstat(fd), path.parent.stat()):
            if ours is not None and (status.st_uid not in ours or status.st_mode & 0o022):
                raise Refused(
                    f"{path} is not believed: another user can write it",
                    hint=f"Make it yours alone: chmod go-w {path.parent} {path}",
                )
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            raise Refused(f"{path} is not believed: it is not a small file", hint="Write it anew.")
        return os.read(fd, status.st_size)
    finally:
        os.close(fd)


def _parsed(path: Path, text: bytes) -> Mapping[str, Any]:
    name = str(path)
    document, diagnostics = parse_yaml(text, name)
    problems = [diagnostic for diagnostic in diagnostics if diagnostic.is_error]
    if document is not None and not problems:
        problems = validate_value(document, load_schema("trust.schema"), prefix="trust")
    if document is not None and not problems:
        folders: Any = document.value.get("outside", ())
        problems = [
            error(
                "trust/value",
                f"`outside[{index}]` is not an absolute path",
                source=document.at(("outside", index)),
                hint="Write the whole path; ~ and variables stand for nothing here.",
            )
            for index, folder in enumerate(folders)
            if not os.path.isabs(folder)
        ]
    if document is None or problems:
        count = len(problems)
        raise InputError(
            f"{name} has {count} error{'s' if count != 1 else ''}",
            diagnostics=sorted(problems, key=Diagnostic.sort_key),
        )
    return document.value
