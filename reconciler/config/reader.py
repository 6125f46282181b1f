"""Finds, reads and checks ``reconcile.yaml``.

A secret key never belongs in the file. If there is one, the error does not repeat it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from reconciler.authoring.documents import Document
from reconciler.authoring.json_schema import validate_value
from reconciler.authoring.loader import parse_yaml
from reconciler.commands import CONFIG_NAME, Command
from reconciler.config.cache import ConfigCache
from reconciler.config.places import ProjectPlaces
from reconciler.config.project import Boundary, search_config
from reconciler.config.settings import EMULATOR, Config, SettingsBuilder
from reconciler.config.trust import Trust
from reconciler.errors import Diagnostic, InputError, Message, Source, error
from reconciler.homes import homes_of
from reconciler.resources import fingerprint, load_schema
from reconciler.values import Json

MAX_BYTES = 1024 * 1024
INIT = Command.of("init", is_global=False)


def find_config(start: Path, environ: Mapping[str, str] | None = None) -> Path | None:
    """The nearest ``reconcile.yaml`` in a folder or above it, within its repository.

    Raises Refused where it belongs to another user.
    """
    return search_config(start, environ or {}).path


def load_config(
    path: Path | None,
    *,
    start: Path,
    environ: Mapping[str, str] | None = None,
    cache: bool = True,
    program: str | None = None,
    trust: Trust = Trust(),  # noqa: B008
) -> Config:
    """The configuration in ``path``, or else in the nearest one from ``start`` upwards.

    ``environ`` names the homes of the user, and whose files are ours (``SUDO_UID``); by default it is the
    environment of the process. Without ``cache`` the file is parsed, and its value is not kept. ``program``
    says which program may use a kept value: by default the one with the fingerprint of this program.
    ``trust`` says where its paths may lead besides its project.

    Raises InputError, with a diagnostic for each thing that is wrong; UsageError for variables that name no
    usable home; Refused for a configuration of another user that was not named, and for a trust file inside
    of the project.
    """
    environ = os.environ if environ is None else environ
    if path is None:
        search = search_config(start, environ)
        if search.path is None:
            raise InputError(
                f"there is no {CONFIG_NAME} here or above"
                + (f"; the search ended because {search.reason}" if search.reason else ""),
                hint=Message.of("Run ", INIT, " to write one, or give --config FILE."),
            )
        path = search.path
    name = _display(path, start)
    data = _read(path, name)
    if secrets := list(_secret_keys(data, name)):
        raise _invalid(name, secrets)
    root = path.absolute().parent
    boundary = Boundary.of(root, environ, trust=trust)
    places = ProjectPlaces.of(root, homes_of(environ, project=root))
    kept = ConfigCache(places, path.name, program=fingerprint() if program is None else program)
    if cache and (value := kept.read(data)) is not None:
        builder = SettingsBuilder(
            Document(value, Source(name), {}), root, places=places, boundary=boundary
        )
        config = builder.config(path)
        if not builder.problems:  # a problem has a place, and the cache keeps none
            return config
    document, diagnostics = parse_yaml(data, name)
    problems = [diagnostic for diagnostic in diagnostics if diagnostic.is_error]
    if document is None or problems:
        raise _invalid(name, problems)
    if problems := validate_value(document, load_schema("config.schema"), prefix="config"):
        raise _invalid(name, problems)
    builder = SettingsBuilder(document, root, places=places, boundary=boundary)
    config = builder.config(path)
    if builder.problems:
        raise _invalid(name, builder.problems)
    if cache and not diagnostics:
        kept.write(data, document.value)
    return config


def plain_config(root: Path, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of a folder without one: profiles below ``profiles``, and the embedded emulator
    as the environment ``local``. ``environ`` names the homes of the user."""
    data: dict[str, Json] = {
        "version": 1,
        "environments": {"local": {"api": {"url": EMULATOR}}},
    }
    places = ProjectPlaces.of(root, homes_of(environ or {}, project=root))
    return SettingsBuilder(Document(data, Source(CONFIG_NAME), {}), root, places=places).config(
        None
    )


_SECRET_KEY = re.compile(rb"secret_(?:live|test)_[A-Za-z0-9]", re.IGNORECASE)


def _display(path: Path, start: Path) -> str:
    try:
        return path.absolute().relative_to(start.absolute()).as_posix()
    except ValueError:
        return str(path)


def _read(path: Path, name: str) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _unreadable(name, "it is not a file")
        if status.st_size > MAX_BYTES:
            raise _unreadable(name, "it is larger than 1 MiB")
        return path.read_bytes()
    except OSError as problem:
        raise _unreadable(name, problem.strerror or type(problem).__name__) from None
    except ValueError:
        raise _unreadable(name, "that is not a path") from None


def _unreadable(name: str, why: str) -> InputError:
    finding = error(
        "config/unreadable",
        f"the configuration cannot be read: {why}",
        source=Source(name),
        hint=Message.of("Give an existing file, or run ", INIT, " to write one."),
    )
    return _invalid(name, [finding])


def _invalid(name: str, diagnostics: list[Diagnostic]) -> InputError:
    count = len(diagnostics)
    return InputError(
        f"{name} has {count} error{'s' if count != 1 else ''}",
        diagnostics=sorted(diagnostics, key=Diagnostic.sort_key),
    )


def _secret_keys(data: bytes, name: str) -> Iterator[Diagnostic]:
    """An error for each secret key in the text, comments included.

    The text is searched before it is parsed, so no other message can quote a key.
    """
    for number, line in enumerate(data.split(b"\n"), start=1):
        for match in _SECRET_KEY.finditer(line):
            column = len(line[: match.start()].decode("utf-8", "replace")) + 1
            yield error(
                "config/secret-key",
                "this looks like a secret key",
                source=Source(name, number, column),
                hint="Remove it and replace the key at Adapty, since it may have been shared. "
                "`key_env` takes the name of the variable that holds the key.",
            )
