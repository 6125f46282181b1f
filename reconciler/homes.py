"""Where a user's own files lie, outside of every checkout: states, caches, settings, and a secret. An edge.

Whoever sends a pull request chooses what lies in a checkout, with its modes and, on the runner, its owner.
So nothing in there is proof of who wrote it. What this program has to believe later lies in a home of the
user, or is authenticated with the secret that lies there.

The homes are those of the XDG Base Directory Specification and of the systems
(https://specifications.freedesktop.org/basedir-spec/latest/). A home inside of a project's work tree is none.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from reconciler.atomicfile import is_ours_alone, new_file
from reconciler.errors import UsageError
from reconciler.systems import open_flags

STATE_VARIABLE = "RECONCILE_STATE_DIR"
CACHE_VARIABLE = "RECONCILE_CACHE_DIR"
_OURS = "reconcile"
_SECRET_BYTES = 32
_NAME_BYTES = 16
_KEY_BYTES = 32


class Homes(NamedTuple):
    """The folders of a user; ``None`` for what the user does not have. They need not exist yet."""

    state: Path | None = None
    """States, notes about them, and the secret."""
    cache: Path | None = None
    """What can be made again."""
    config: Path | None = None
    """Settings of the user, which are trusted."""

    def secret(self) -> bytes | None:
        """The secret of this user on this machine, made on first need; see `secret_in`."""
        return None if self.state is None else secret_in(self.state)


def homes_of(environ: Mapping[str, str], *, project: Path, platform: str = sys.platform) -> Homes:
    """The homes that the variables name, for a project's folder.

    A home inside of the project's work tree is left out, because whoever wrote the project would write it:
    ``HOME`` is the work tree in some builds. A variable of our own that names such a folder is an error.

    Raises UsageError where ``RECONCILE_STATE_DIR`` or ``RECONCILE_CACHE_DIR`` is no absolute path outside of
    the work tree.
    """
    tree = os.path.realpath(work_tree(project) or project)
    bases = _bases(environ, platform)
    state = _own(environ, STATE_VARIABLE, tree=tree) or _outside(bases.state, tree)
    cache = _own(environ, CACHE_VARIABLE, tree=tree) or _outside(bases.cache, tree)
    return Homes(state, cache, _outside(bases.config, tree))


def config_home(environ: Mapping[str, str], platform: str = sys.platform) -> Path | None:
    """The folder of the user's settings, wherever it lies; ``None`` if the variables name none."""
    return _bases(environ, platform).config


def work_tree(folder: Path) -> Path | None:
    """The nearest folder from ``folder`` upwards, links followed, that has a ``.git``; ``None`` if there is
    none. git would take a bare repository on the way for one as well."""
    here = Path(os.path.realpath(folder))
    for candidate in (here, *here.parents):
        if os.path.lexists(candidate / ".git"):
            return candidate
    return None


def _bases(environ: Mapping[str, str], platform: str) -> Homes:
    """The folders of this program, as the variables of the system name them."""
    folders = []
    for variable, default in zip(_VARIABLES, _defaults(environ, platform), strict=True):
        base = _absolute(environ.get(variable)) or default
        folders.append(None if base is None else Path(base, _OURS))
    return Homes(*folders)


_VARIABLES = ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
_PLACES = {
    "darwin": ("Library/Application Support", "Library/Caches", "Library/Application Support"),
    "win32": ("", "Cache", ""),
}


def _defaults(environ: Mapping[str, str], platform: str) -> Iterator[str | None]:
    """The places for state, cache and settings where a system has them."""
    home = _absolute(environ.get("HOME"))
    home = home if home is not None and os.path.isdir(home) else None
    local, roaming = (_absolute(environ.get(name)) for name in ("LOCALAPPDATA", "APPDATA"))
    bases = (local, local, roaming) if platform == "win32" else (home, home, home)
    places = _PLACES.get(platform, (".local/state", ".cache", ".config"))
    for base, place in zip(bases, places, strict=True):
        yield base and os.path.join(base, *place.split("/"))


def _absolute(path: str | None) -> str | None:
    """A path, unless it is relative: that one would lead into the working directory."""
    return path if path and os.path.isabs(path) and "\0" not in path else None


def _own(environ: Mapping[str, str], variable: str, *, tree: str) -> Path | None:
    text = environ.get(variable)
    if not text:
        return None
    hint = "Name a folder by its absolute path, outside of the project."
    if _absolute(text) is None:
        raise UsageError(f"{variable} is not an absolute path", hint=hint)
    path = _outside(Path(text), tree)
    if path is None:
        raise UsageError(
            f"{variable} names a folder inside of the project, where a checkout can write",
            hint=hint,
        )
    return path


def _outside(path: Path | None, tree: str) -> Path | None:
    """A path, unless it lies inside of a work tree. A work tree that is the top of the file system holds
    everything, and says nothing."""
    if path is None:
        return None
    inside = os.path.join(tree, "")
    real = os.path.join(os.path.realpath(path), "")
    return None if real.startswith(inside) and os.path.dirname(tree) != tree else path


# --- names and keys ------------------------------------------------------------------------------


def place_name(*parts: str) -> str:
    """A name for a file that belongs to some texts: a digest of them."""
    return blake2b(_joined(parts), digest_size=_NAME_BYTES).hexdigest()


def derived_key(secret: bytes, *purpose: str) -> bytes:
    """The key for one purpose, so that what is authenticated for one place counts at no other."""
    return blake2b(_joined(purpose), key=secret, digest_size=_KEY_BYTES).digest()


def _joined(parts: tuple[str, ...]) -> bytes:
    """Texts as bytes, each after its length, so that no two lists are the same."""
    encoded = [part.encode("utf-8", "surrogateescape") for part in parts]
    return b"".join(b"%d:%s" % (len(part), part) for part in encoded)


# --- the secret ----------------------------------------------------------------------------------


def secret_in(folder: Path) -> bytes | None:
    """The random secret that a user has in a folder. It is made on first need, for the user alone; of
    processes that race, all get the same one.

    ``None`` where it cannot be made, and where something else has its name: a link, or a file that others
    can read or own. Nothing is authenticated then, so nothing that was remembered counts.
    """
    path = folder / "secret"
    with suppress(OSError):
        if not os.path.lexists(path):
            _make_secret(path)
        return _read_secret(path)
    return None


def _make_secret(path: Path) -> None:
    """Puts a new secret in place, whole and durable, unless another process was quicker. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = new_file(path.parent, prefix=".secret.")
    try:
        with open(temporary, "wb") as file:
            file.write(os.urandom(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError as problem:
            if problem.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            # No hard links here. Should two processes race, what the first one wrote does not count.
            os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _read_secret(path: Path) -> bytes | None:
    descriptor = os.open(path, open_flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK"))
    try:
        status = os.fstat(descriptor)
        is_whole = stat.S_ISREG(status.st_mode) and status.st_size == _SECRET_BYTES
        if not is_whole or not is_ours_alone(status):
            return None
        return os.read(descriptor, _SECRET_BYTES)
    finally:
        os.close(descriptor)
