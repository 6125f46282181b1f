"""The profiles that the files declare. Only files that changed are read; the index remembers the others.

Everything passes through the index, an empty one at first. So a plan from scratch is the plan of an
empty index, and differs from a later one only in how many files it reads.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

from reconciler.authoring.claims import cross_file_findings
from reconciler.authoring.finding_limits import LimitedFindings
from reconciler.authoring.folder_defaults import FolderDefaults
from reconciler.authoring.render import rendered_documents
from reconciler.authoring.walk import DEFAULTS, Listing, Stamp, Walk
from reconciler.core.contract_files import load_contract
from reconciler.core.profiles import Profile
from reconciler.errors import Diagnostic, Interrupted
from reconciler.planning.findings import decode_findings, encode_findings
from reconciler.planning.folder_files import NO_FILES, FolderFiles
from reconciler.planning.index import FileEntry, FileResult, Index
from reconciler.planning.limits import Limits, ProgressEvent, ProgressPhase
from reconciler.planning.reader import FileRequest, ParseOptions, read_files
from reconciler.planning.workers import WorkerPool

_DEFAULTS = "defaults"
"""The note of the digests of the defaults that the files of folders were read with."""
_CROSS_FILE = "cross-file findings"
"""The note of the findings about several documents together."""
_NO_FINDINGS = encode_findings([])
_FEW_CHANGED = 10_000
"""Changed files for which looking for conflicts of each takes less time than going through all profiles."""
_PROFILES_AT_ONCE = 500
_UNTRUSTED = Stamp(-1, 0, 0, 0)
"""The stamp of a file that has to be read again."""


class ReadContext(NamedTuple):
    """The options and helpers that files are read with."""

    options: ParseOptions
    display: Callable[[Path], str] = str
    """The name of a file in messages."""
    stop: Callable[[], bool] = lambda: False
    """Whether the user asked for the end."""
    on_progress: Callable[[ProgressEvent], None] = lambda event: None
    workers: WorkerPool = WorkerPool()
    limits: Limits = Limits()


def are_larger_than(root: Path, size: int) -> bool:
    """Whether the files below a root hold so many bytes."""
    sizes = (sum(listing.sizes()) for listing in Walk(root).listings())
    return any(total >= size for total in accumulate(sizes))


class Catalog:
    """The declarations of the files below a root, as they were read. A catalog ends with its index."""

    def __init__(self, index: Index, *, findings: Sequence[Diagnostic], documents: int) -> None:
        self.index = index
        # An error in defaults shows in every profile above them, and is reported once.
        shared = LimitedFindings(distinct=True)
        shared.extend(each for each in findings if each.source.file.endswith(DEFAULTS))
        others = (each for each in findings if not each.source.file.endswith(DEFAULTS))
        self.findings = tuple(sorted([*shared.listed(), *others], key=Diagnostic.sort_key))
        self.documents = documents

    @classmethod
    def read(cls, index: Index, root: Path, *, context: ReadContext) -> Catalog:
        """Brings an index up to date with the files below a root.

        Raises Interrupted when asked to stop.
        """
        walk = Walk(root, context.display)
        update = _Update(index, root, context=context)
        update.run(walk)
        index.prepare()
        conflicting = _conflicting_files(index, update)
        if conflicting is not None:
            conflicts = _conflicts(
                index.names(conflicting), root=root, context=context, update=update
            )
            index.put_note(_CROSS_FILE, encode_findings(conflicts))
        findings = [
            *walk.diagnostics,
            *update.defaults.findings,
            *index.findings(),
            *decode_findings(index.note(_CROSS_FILE) or _NO_FINDINGS),
        ]
        return cls(index, findings=findings, documents=index.count())

    @property
    def is_valid(self) -> bool:
        return not any(finding.is_error for finding in self.findings)

    def lifetimes(self) -> Iterator[tuple[str, int, str]]:
        """Address, id and lifetime of the profiles that have one."""
        return self.index.lifetimes()

    def profile(self, number: int) -> Profile:
        """The profile with an id."""
        return self.index.indexed_profiles([number])[number].profile()

    def profiles(self) -> DeclaredProfiles:
        """The profiles of valid declarations."""
        return DeclaredProfiles(self.index, self.documents)


class DeclaredProfiles:
    """The declared profiles in the order of their addresses, read from the index each time that they are
    asked for.

    Going through them raises ReconcileError once the workspace is closed."""

    def __init__(self, index: Index, count: int) -> None:
        self._index = index
        self._count = count
        index.file.lend(self)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Profile]:
        index = self._index
        ids = index.profiles()
        while chunk := [*islice(ids, _PROFILES_AT_ONCE)]:
            profiles = index.indexed_profiles(chunk)
            for number in chunk:
                yield profiles[number].profile()


# --- one pass over the files ---------------------------------------------------------------------


class _FolderUpdate:
    """A folder some files of which are being read."""

    __slots__ = ("ids", "listing", "open", "path")

    def __init__(self, path: bytes, listing: Listing, *, ids: array[int]) -> None:
        self.path = path
        self.listing = listing
        self.ids = ids
        self.open = 0
        """Files of which no result has come yet."""


class _Suspect(NamedTuple):
    """A file that may have changed."""

    folder: _FolderUpdate
    position: int
    file: int
    """The id of the file; 0 if it is new."""
    request: FileRequest

    @property
    def size(self) -> int:
        """Bytes."""
        return self.folder.listing.size(self.position)


class _Update:
    """One pass over the files below a root, which brings an index up to date."""

    def __init__(self, index: Index, root: Path, *, context: ReadContext) -> None:
        placeholders = context.options.placeholders
        self._index = index
        self._context = context
        self._trusted_before = index.trusted_before()
        self._stale = {
            file
            for number, digests in index.sources().items()
            if any(placeholders.digest_of(name) != digest for name, digest in digests.items())
            for file in index.files_from(number)
        }
        """Files that have to be read again although they did not change."""
        self.defaults = FolderDefaults(
            root, display=context.display, contract=load_contract(context.options.dialect)
        )
        self._noted_defaults: Mapping[str, str] = json.loads(index.note(_DEFAULTS) or "{}")
        self._defaults: dict[str, str] = {}
        self._files = 0
        self.changed = array("q")
        """Ids of the files that are new or have changed."""
        self.has_removed = False
        """Whether a file is no longer there."""

    def run(self, walk: Walk) -> None:
        context = self._context
        limits = context.limits
        for suspects, results in context.workers.map_ordered(
            read_files,
            _batches(self._suspects(walk), limits=limits),
            arguments=lambda batch: ([each.request for each in batch], context.options),
            cost=lambda batch: sum(each.size for each in batch) / limits.bytes_per_process,
        ):
            self._put(suspects, results)
        if self._defaults != self._noted_defaults:
            self._index.put_note(_DEFAULTS, json.dumps(self._defaults))

    def _suspects(self, walk: Walk) -> Iterator[_Suspect]:
        """The files to read, folder by folder."""
        index, stale = self._index, self._stale
        walked: set[bytes] = set()
        for listing in walk.listings():
            path = listing.folder.encode("utf-8", "surrogateescape")
            walked.add(path)
            folder = index.folder(path)
            self._check_defaults(listing.folder, folder)
            if (
                folder is None
                or not folder.is_same(listing)
                or (stale and not stale.isdisjoint(folder.file_ids()))
            ):
                yield from self._suspects_in(path, listing, folder=folder)
            else:
                self._report(len(listing.names))
        for path in [path for path in index.folders() if path not in walked]:
            index.remove_folder(path)
            self.has_removed = True

    def _check_defaults(self, path: str, folder: FolderFiles | None) -> None:
        """Makes all files of a folder stale whose defaults changed."""
        below = self.defaults.of(path)
        digest = "" if below is None else below.digest
        if digest:
            self._defaults[path] = digest
        if folder is not None and digest != self._noted_defaults.get(path, ""):
            self._stale.update(folder.file_ids())

    def _suspects_in(
        self, path: bytes, listing: Listing, *, folder: FolderFiles | None
    ) -> Iterator[_Suspect]:
        comparison = (folder or NO_FILES).compared(listing)
        ids, suspects = comparison.ids, comparison.suspects
        update = _FolderUpdate(path, listing, ids=ids)
        if self._stale:
            again = {at for at, file in enumerate(ids) if file in self._stale}
            suspects = sorted(again.union(suspects))
        if comparison.gone:
            self._index.remove_files(comparison.gone)
            self.has_removed = True
        update.open = len(suspects)
        self._report(len(listing.names) - len(suspects))
        if not suspects:
            self._write(update)
            return
        digests = self._index.digests(file for at in suspects if (file := ids[at]))
        below = self.defaults.of(listing.folder)
        for position in suspects:
            file = ids[position]
            digest = b"" if file in self._stale else digests.get(file, b"")
            request = FileRequest(listing.opened(position), listing.shown(position), digest, below)
            yield _Suspect(update, position, file, request)

    def _put(self, suspects: list[_Suspect], results: Sequence[FileResult | Stamp]) -> None:
        if self._context.stop():
            raise Interrupted("interrupted; nothing was planned")
        known: list[FileEntry] = []
        new: list[FileEntry] = []
        for suspect, result in zip(suspects, results, strict=True):
            folder, position, file = suspect.folder, suspect.position, suspect.file
            if isinstance(result, FileResult):
                entries = known if file else new
                if not file:
                    file = folder.ids[position] = self._index.new_file()
                entries.append(FileEntry(file, suspect.request.name, result))
                self.changed.append(file)
                stamp = result.stamp
            else:
                stamp = result
            if stamp is None or max(stamp.modified, stamp.changed) >= self._trusted_before:
                stamp = _UNTRUSTED
            folder.listing.set_stamp(position, stamp)
            folder.open -= 1
        self._index.replace_files(known)
        self._index.add_files(new)
        for folder in {id(each.folder): each.folder for each in suspects}.values():
            if not folder.open:
                self._write(folder)
        self._report(len(suspects))

    def _write(self, folder: _FolderUpdate) -> None:
        listing = folder.listing
        self._index.put_folder(
            folder.path, names=listing.names, stamps=listing.stamps, ids=folder.ids
        )

    def _report(self, more: int) -> None:
        """Reports that so many more files are done."""
        self._files += more
        self._context.on_progress(ProgressEvent(ProgressPhase.READING, self._files))


def _batches(suspects: Iterator[_Suspect], *, limits: Limits) -> Iterator[list[_Suspect]]:
    batch: list[_Suspect] = []
    size = 0
    for suspect in suspects:
        batch.append(suspect)
        size += suspect.size
        if len(batch) >= limits.files_per_batch or size >= limits.bytes_per_batch:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


# --- findings about several files ----------------------------------------------------------------


def _conflicting_files(index: Index, update: _Update) -> set[int] | None:
    """The files whose documents may claim the same; ``None`` if the noted findings still hold."""
    noted = index.note(_CROSS_FILE)
    if noted == _NO_FINDINGS and len(update.changed) <= _FEW_CHANGED:
        files = index.files_in_conflict_with(update.changed)
        return (files | index.files_with_clashing_former_addresses()) or None
    if noted is None or update.changed or update.has_removed:
        return index.conflicting_files() | index.files_with_clashing_former_addresses()
    return None


def _conflicts(
    names: Collection[str], *, root: Path, context: ReadContext, update: _Update
) -> list[Diagnostic]:
    """Findings about documents that claim the same, in the files with some names. These are read again by
    the reader that knows exact places."""
    if not names:
        return []
    documents, _ = rendered_documents(
        root,
        update.defaults,
        values=context.options.placeholders,
        display=context.display,
        names=names,
    )
    return cross_file_findings(documents)
