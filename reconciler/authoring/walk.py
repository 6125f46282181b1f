"""Folders and files: the walk over a profiles folder, and the bytes of a file with its stamp.

A file that cannot be read is an error and never looks like an absent one. This module does not look
into files, so walking over unchanged files imports no parser.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from reconciler.errors import Diagnostic, Severity, Source, error
from reconciler.systems import open_flags

MAX_FILE = 64 * 1024 * 1024
"""Bytes of one file."""
TOO_LARGE = f"the file has more than {MAX_FILE // 2**20} MiB"

_ENDINGS = (".yaml", ".yml")
DEFAULTS = "_defaults.yaml"
"""The file with the defaults of its folder; it is no profile file."""
_OTHER_DEFAULTS = "_defaults.yml"
_FLAGS = open_flags("O_RDONLY", "O_NONBLOCK", "O_NOFOLLOW")


def is_profile_name(name: str) -> bool:
    """Whether a file of this name below a profiles folder is read, or was meant to be."""
    return not name.startswith(".") and name.lower().endswith(_ENDINGS)


class Stamp(NamedTuple):
    """Numbers of a file that change when its content does."""

    size: int
    modified: int
    """Nanoseconds since the epoch."""
    changed: int
    """When its status changed, in nanoseconds since the epoch."""
    inode: int


STAMP = len(Stamp._fields)
"""Numbers of a stamp."""


def read_file(path: str, name: str) -> tuple[bytes, Stamp] | Diagnostic:
    """The content of a file, and the stamp that it had before it was read; or why it cannot be read.

    ``name`` is what it is called in messages.
    """
    try:
        return _read(path)
    except _UnreadableFile as problem:
        return error(problem.rule, problem.message, source=Source(name), hint=problem.hint)


def read_file_inside(path: str, name: str, *, folder: str) -> tuple[bytes, Stamp] | Diagnostic:
    """`read_file` of a path that may be a link to a file below a folder, as a mounted ConfigMap has it."""
    try:
        if os.path.islink(path):
            path, _ = _follow(path, inside=_inside(folder))
        return _read(path)
    except OSError as problem:
        unusable = _unreadable(problem, "file")
    except _UnreadableFile as problem:
        unusable = problem
    return error(unusable.rule, unusable.message, source=Source(name), hint=unusable.hint)


def files_below(
    root: Path, *, display: Callable[[Path], str] | None = None
) -> tuple[list[tuple[Path, str]], list[Diagnostic]]:
    """The profile files below a root and their defaults, each with its name in messages; and the findings
    about files that cannot be read."""
    walk = Walk(root, display)
    files = [(Path(path), name) for _, path, name in walk.files()]
    files += [(Path(path), walk.name(path)) for path in walk.defaults]
    return sorted(files), walk.diagnostics


class _UnreadableFile(Exception):
    """A file cannot be read; carries rule, message and hint of the diagnostic."""

    def __init__(self, rule: str, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.rule, self.message, self.hint = rule, message, hint


def _unreadable(problem: OSError | ValueError, what: str) -> _UnreadableFile:
    reason = getattr(problem, "strerror", None) or str(problem)
    return _UnreadableFile(
        "file/unreadable",
        f"the {what} cannot be read: {reason}",
        hint="Make it readable: what cannot be read is never taken as absent.",
    )


def _not_regular(mode: int) -> _UnreadableFile:
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
    }
    return _UnreadableFile(
        "file/not-regular",
        f"this is {kinds.get(stat.S_IFMT(mode), 'something else')}, not a regular file",
        hint="Remove or rename it, or put a regular file in its place.",
    )


def _read(path: str) -> tuple[bytes, Stamp]:
    """The bytes of a regular file within the limit, and the stamp that it had before they were read.

    Never waits: not on a pipe, not on a device.
    """
    try:
        fd = os.open(path, _FLAGS)
    except (OSError, ValueError) as problem:
        raise _unreadable(problem, "file") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _not_regular(status.st_mode)
        chunks: list[bytes] = []
        size = status.st_size
        if size <= MAX_FILE:  # not even a buffer for more: a sparse file may claim any size
            chunk_size, size = max(size, 4095) + 1, 0
            while size <= MAX_FILE and (chunk := os.read(fd, chunk_size)):
                chunks.append(chunk)
                size += len(chunk)
                if size == status.st_size:  # what is added from now on changes the stamp
                    break
    except OSError as problem:
        raise _unreadable(problem, "file") from None
    finally:
        os.close(fd)
    if size > MAX_FILE:
        raise _UnreadableFile("file/too-large", TOO_LARGE, hint="Split it into several files.")
    return b"".join(chunks), _stamp(status)


def _inside(folder: str) -> str:
    """The beginning of the real paths of all files below a folder."""
    return os.path.join(os.path.realpath(folder), "")


def _follow(path: str, *, inside: str) -> tuple[str, os.stat_result]:
    """The real path and status of the file that a link leads to; ``inside`` is what the path must begin with.

    Raises _UnreadableFile for a link that leads outside, nowhere or to no regular file.
    """
    status = _status_of_target(path)
    real = os.path.realpath(path)
    if not real.startswith(inside):
        raise _UnreadableFile(
            "file/link-outside",
            "this link leads out of the profiles folder",
            hint="Copy the file into the folder: what is outside of it is not read.",
        )
    if not stat.S_ISREG(status.st_mode):
        raise _not_regular(status.st_mode)
    return real, status


def _status_of_target(path: str) -> os.stat_result:
    """The status of what a link leads to.

    Raises _UnreadableFile for a link that leads nowhere or in a circle.
    """
    try:
        return os.stat(path)
    except OSError as problem:
        if problem.errno not in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR):
            raise
        what = "leads in a circle" if problem.errno == errno.ELOOP else "leads nowhere"
        raise _UnreadableFile(
            "file/link-broken",
            f"this link {what}",
            hint="Repair or remove it: what cannot be read is never taken as absent.",
        ) from None


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(
        status.st_size,
        max(-_SIGNED, min(status.st_mtime_ns, _SIGNED)),
        max(-_SIGNED, min(status.st_ctime_ns, _SIGNED)),
        status.st_ino & _SIGNED,
    )


_SIGNED = 2**63 - 1
"""The largest number of a stamp. Some file systems know times after 2262, which are larger; they count as
this one, in the future, which no reader of stamps trusts."""


class Listing(NamedTuple):
    """The profile files in one folder, in no particular order, with their stamps."""

    folder: str
    prefix: str
    """Stands before the names of its files in messages."""
    names: list[str]
    stamps: array[int]
    """The numbers of all stamps, one file after another."""
    links: dict[str, str]
    """The real paths of files that are links."""

    def path(self, index: int) -> str:
        return os.path.join(self.folder, self.names[index])

    def opened(self, index: int) -> str:
        """The path to open: the real one of a link."""
        return self.links.get(self.names[index]) or self.path(index)

    def shown(self, index: int) -> str:
        return self.prefix + _readable(self.names[index])

    def size(self, index: int) -> int:
        """Bytes of a file."""
        return self.stamps[index * STAMP]

    def sizes(self) -> array[int]:
        """Bytes of each file."""
        return self.stamps[::STAMP]

    def set_stamp(self, index: int, stamp: Stamp) -> None:
        """Replaces the stamp of a file."""
        self.stamps[index * STAMP : (index + 1) * STAMP] = array("q", stamp)


def _readable(name: str) -> str:
    if name.isascii():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def path_of_name(folder: Path, name: str) -> Path:
    """The path of a file below a folder by its name in messages, which escapes bytes that are no UTF-8."""
    path = folder / name
    if "\\x" not in name or os.path.lexists(path):
        return path
    data = name.encode("utf-8", "surrogatepass")
    original = re.sub(
        rb"\\x([89a-f][0-9a-f])", lambda match: bytes.fromhex(match[1].decode("ascii")), data
    )
    return folder / os.fsdecode(original)


class Walk:
    """A walk over the files below a root, folder by folder, and the findings on the way."""

    def __init__(self, root: Path, display: Callable[[Path], str] | None = None) -> None:
        self._root = str(root)
        self._display = display
        self.diagnostics: list[Diagnostic] = []
        self.defaults: list[str] = []
        """The files of defaults, as far as the walk has come."""

    def listings(self) -> Iterator[Listing]:
        """The folders that hold files to read. May be iterated once."""
        root = self._root
        try:
            status = os.stat(root)
        except FileNotFoundError:
            self._report(
                "file/missing",
                "there is no such file or folder",
                name=self.name(root),
                hint="Check the path, or create the folder and a profile file in it. "
                "A missing folder is never read as a wish to delete.",
            )
            return
        except (OSError, ValueError) as problem:
            self._unusable(root, _unreadable(problem, "path"))
            return
        if stat.S_ISDIR(status.st_mode):
            has_files = False
            for listing in self._folders():
                has_files = True
                yield listing
            if not has_files and not any(item.is_error for item in self.diagnostics):
                self._report(
                    "file/no-profiles",
                    "the folder holds no profile file",
                    name=self.name(root),
                    hint="Put *.yaml or *.yml files into it; an empty folder is never read "
                    "as a wish to delete.",
                )
        elif stat.S_ISREG(status.st_mode):
            folder, name = os.path.split(root)
            prefix = self.name(root).removesuffix(_readable(name))
            links = {name: os.path.realpath(root)}
            yield Listing(folder, prefix, [name], array("q", _stamp(status)), links)
        else:
            self._unusable(root, _not_regular(status.st_mode))

    def files(self) -> list[tuple[list[str], str, str]]:
        """The files in the order of their paths: the parts of each path, the path to open, and the name in
        messages. May be called once."""
        return sorted(
            (listing.path(at).split(os.sep), listing.opened(at), listing.shown(at))
            for listing in self.listings()
            for at in range(len(listing.names))
        )

    def _folders(self) -> Iterator[Listing]:
        inside = _inside(self._root)
        folders = [self._root]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    listing = self._listing(folder, entries, folders=folders, inside=inside)
            except OSError as problem:
                self._unusable(folder, _unreadable(problem, "folder"))
            else:
                if listing.names:
                    yield listing

    def _listing(
        self, folder: str, entries: Iterable[os.DirEntry[str]], *, folders: list[str], inside: str
    ) -> Listing:
        """The listing of one folder. The folders in it are added to ``folders``."""
        names: list[str] = []
        stamps = array("q")
        links: dict[str, str] = {}
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            try:
                if name == DEFAULTS:
                    if entry.is_symlink():
                        _follow(entry.path, inside=inside)
                    self.defaults.append(entry.path)
                    continue
                if entry.is_file(follow_symlinks=False):
                    if name.endswith(_ENDINGS):
                        if name == _OTHER_DEFAULTS:
                            self._report(
                                "defaults/name",
                                "this file is read as profiles, not as defaults",
                                name=self.name(entry.path),
                                hint=f"Rename it to {DEFAULTS}.",
                            )
                        status = entry.stat(follow_symlinks=False)
                    else:
                        self._ending(name, entry.path)
                        continue
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                elif entry.is_symlink():
                    link = self._link(entry.path, inside, is_profile=name.endswith(_ENDINGS))
                    if link is None:
                        continue
                    links[name], status = link
                elif name.endswith(_ENDINGS):
                    raise _not_regular(entry.stat(follow_symlinks=False).st_mode)
                else:
                    self._ending(name, entry.path)
                    continue
            except _UnreadableFile as problem:
                self._unusable(entry.path, problem)
            except OSError as problem:
                self._unusable(entry.path, _unreadable(problem, "file"))
            else:
                names.append(name)
                numbers = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
                try:
                    stamps.extend(numbers)
                except OverflowError:
                    del stamps[len(names) * STAMP - STAMP :]
                    stamps.extend(_stamp(status))
        shown = self.name(folder) if names else ""
        prefix = "" if shown in ("", ".") else os.path.join(shown, "")
        return Listing(folder, prefix, names, stamps, links)

    def _ending(self, name: str, path: str) -> None:
        if name.lower().endswith(_ENDINGS):
            self._report(
                "file/ending",
                "this file is not read: its ending is not in lower case",
                name=self.name(path),
                hint="Rename it to end in .yaml or .yml.",
                severity=Severity.WARNING,
            )

    def _link(
        self, path: str, inside: str, *, is_profile: bool
    ) -> tuple[str, os.stat_result] | None:
        """The real path and status of the file that a link leads to; ``None`` if it is not read."""
        try:
            status = _status_of_target(path)
        except (_UnreadableFile, OSError):
            if is_profile:
                raise
            return None
        if stat.S_ISDIR(status.st_mode):
            self._report(
                "file/link-folder",
                "this link to a folder is not followed",
                name=self.name(path),
                hint="Move the folder here; if it holds no profiles, nothing is missing.",
                severity=Severity.WARNING,
            )
            return None
        return _follow(path, inside=inside) if is_profile else None

    def name(self, path: str) -> str:
        """The name of a file or folder in messages."""
        return _readable(self._display(Path(path)) if self._display else Path(path).as_posix())

    def _unusable(self, path: str, problem: _UnreadableFile) -> None:
        self._report(problem.rule, problem.message, name=self.name(path), hint=problem.hint)

    def _report(
        self, rule: str, message: str, *, name: str, hint: str, severity: Severity = Severity.ERROR
    ) -> None:
        self.diagnostics.append(
            Diagnostic.of(severity, rule, message=message, source=Source(name), hint=hint)
        )
