"""What the profile files declare: read and checked where they changed, remembered where they did not.

Everything passes through the index, an empty one at first. So a plan from scratch is the plan of an
empty index, and differs from a later one only in how many files it looks into.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple, TypeAlias
from zlib import adler32, crc32

from reconciler.authoring.claims import claims, cross_file_findings
from reconciler.authoring.declare import parse_profile
from reconciler.authoring.defaults import Defaults
from reconciler.authoring.folder_defaults import FolderDefaults
from reconciler.authoring.loader import load_quickly, load_text
from reconciler.authoring.placeholders import PlaceholderValues
from reconciler.authoring.privacy import Guard, personal_data_findings
from reconciler.authoring.render import (
    ExpandedFile,
    deduplicate,
    expand_file,
    rendered_documents,
)
from reconciler.authoring.validation import validate_document
from reconciler.authoring.walk import DEFAULTS, STAMP, Listing, Stamp, Walk, read_file
from reconciler.core.contract import Contract
from reconciler.core.contract_files import load_contract
from reconciler.core.profiles import Profile, address_of
from reconciler.errors import Diagnostic, Interrupted, ReconcileError
from reconciler.planning.index import (
    Declared,
    Examined,
    Folder,
    Index,
    decode_findings,
    encode_findings,
)
from reconciler.planning.packed import pack
from reconciler.planning.workers import Hands, Told
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Stored

_BATCH_FILES = 256
_BATCH_BYTES = 512 * 1024
_LARGE = 512 * 1024
_WORTH_A_PROCESS = 4 * 1024 * 1024
"""Bytes to read from which on another process saves more time than it takes to start."""
_MADE_AT_ONCE = 500


class Rules(NamedTuple):
    """What a file is read by, besides its own content and its defaults; any executor can carry it."""

    dialect: str
    given: PlaceholderValues = PlaceholderValues()
    guard: Guard = Guard()


class State(NamedTuple):
    """A state, as any executor can carry it."""

    path: Path
    environment: str


class Means(NamedTuple):
    """What declarations are read with."""

    rules: Rules
    state: State | None = None
    """What the profiles will be planned over, if they will: whoever reads a file sees to which of its
    profiles are as recorded, which spares planning them."""
    stop: Callable[[], bool] = lambda: False
    tell: Callable[[Told], None] = lambda told: None
    hands: Hands = Hands()
    """Who reads the files."""

    @property
    def contract(self) -> Contract:
        return load_contract(self.rules.dialect)


def are_large(root: Path) -> bool:
    """Whether there is so much to read below a root that it takes a while."""
    sizes = (sum(listing.stamps[::STAMP]) for listing in Walk(root).listings())
    return any(total >= _LARGE for total in accumulate(sizes))


# --- one file ------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """A file to be looked into."""

    path: str
    name: str
    digest: bytes
    """Of its content when it was last read; empty if it never was."""
    defaults: Defaults | None
    """What lies under its profiles."""


def examine(
    wanted: Sequence[Wanted], rules: Rules, state: State | None = None
) -> list[Examined | Stamp]:
    """What is in some files, and which of it is as recorded in a state; of one whose content is the
    known one just its stamp. Can be carried by any executor."""
    with _stored_in(state) as stored:
        return [
            found
            for start in range(0, len(wanted), _STAGED)
            for found in _examine(wanted[start : start + _STAGED], rules, stored)
        ]


_StoredOf: TypeAlias = Callable[[Collection[str]], Mapping[str, Stored]]
"""The records of some addresses."""


@contextmanager
def _stored_in(state: State | None) -> Iterator[_StoredOf]:
    """What is recorded in a state. Nothing where that cannot be told: planning comes across it again,
    and says what is wrong."""
    if state is None:
        yield lambda addresses: {}
        return

    def stored(addresses: Collection[str]) -> Mapping[str, Stored]:
        try:
            return store.stored(addresses)
        except ReconcileError:
            return {}

    store = SqliteStore(state.path, environment=state.environment)
    try:
        yield stored
    finally:
        store.close()


_STAGED = 64
"""Files of which each is read before any is parsed, and so on: a processor that does one thing at a
time takes a quarter less of it."""


def _examine(
    wanted: Sequence[Wanted], rules: Rules, stored: _StoredOf
) -> Iterator[Examined | Stamp]:
    contract = load_contract(rules.dialect)
    read = [read_file(file.path, file.name) for file in wanted]
    parsed: list[_Parsed | Examined | Stamp] = []
    for file, found in zip(wanted, read, strict=True):
        if isinstance(found, Diagnostic):
            parsed.append(Examined(None, b"", (found,), ()))
            continue
        data, stamp = found
        digest = blake2b(data, digest_size=16).digest()
        if digest == file.digest:
            parsed.append(stamp)
        else:
            loaded = load_quickly(data, file.name)
            content = expand_file(data, loaded, defaults=file.defaults, values=rules.given)
            parsed.append(_Parsed(file, data, stamp, digest, content))
    for one in parsed:
        if isinstance(one, _Parsed):
            _judge(one.content, contract, rules)
    records = stored(
        [
            address
            for one in parsed
            if isinstance(one, _Parsed)
            for document in one.content.documents
            if (address := _claimed(*claims(document)[:2])) is not None
        ]
    )
    for one in parsed:
        yield _examined(one, contract, rules, records) if isinstance(one, _Parsed) else one


def _claimed(customer: str | None, profile_id: str | None) -> str | None:
    """The address that a document claims, which need not be valid."""
    return address_of(customer, profile_id) if customer or profile_id else None


class _Parsed(NamedTuple):
    """A file between two stages."""

    file: Wanted
    data: bytes
    stamp: Stamp
    digest: bytes
    content: ExpandedFile


def _judge(content: ExpandedFile, contract: Contract, rules: Rules) -> None:
    """Adds the findings about each document by itself."""
    for document in content.documents:
        content.findings.extend(validate_document(document, contract))
        content.findings.extend(personal_data_findings(document, contract, guard=rules.guard))


def _examined(
    parsed: _Parsed, contract: Contract, rules: Rules, records: Mapping[str, Stored]
) -> Examined:
    file, content = parsed.file, parsed.content
    findings: Sequence[Diagnostic] = content.findings
    is_valid = True
    if findings:  # read once more, by the reader that knows exact places
        loaded = load_text(parsed.data, file.name)
        content = expand_file(parsed.data, loaded, defaults=file.defaults, values=rules.given)
        _judge(content, contract, rules)
        findings = content.findings if content.sources is None else deduplicate(content.findings)
        is_valid = not any(finding.is_error for finding in findings)
    declared = []
    for document in content.documents:
        customer, profile_id, device = claims(document)
        address = _claimed(customer, profile_id)
        number = None if device is None else _number(device)
        if not is_valid:
            declared.append(Declared(address, profile_id, number, None, None))
            continue
        profile = parse_profile(document, contract)
        layout, body = pack(profile, document.source)
        recorded = None
        lifetime = profile.meta.lifetime
        declared.append(Declared(address, profile_id, number, layout, body, lifetime, recorded))
    return Examined(parsed.stamp, parsed.digest, findings, declared, content.sources)


def _number(device: str) -> int:
    data = device.encode("utf-8", "surrogatepass")
    return crc32(data) << 31 ^ adler32(data)


# --- all files -----------------------------------------------------------------------------------


class _Update:
    """A folder some files of which are being looked into."""

    __slots__ = ("files", "listing", "open", "path")

    def __init__(self, path: bytes, listing: Listing, files: array[int]) -> None:
        self.path = path
        self.listing = listing
        self.files = files
        self.open = 0
        """Files of which nothing has been heard yet."""


class _Asked(NamedTuple):
    update: _Update
    position: int
    file: int
    """The id of the file; 0 if it is new."""
    wanted: Wanted


class _Reading:
    """One pass over the files below a root, by which an index is brought up to date."""

    def __init__(
        self, index: Index, root: Path, means: Means, display: Callable[[Path], str]
    ) -> None:
        given = means.rules.given
        self._index = index
        self._means = means
        self._trusted_before = index.trusted_before()
        self._stale = {
            file
            for number, digests in index.sources().items()
            if any(given.digest_of(name) != digest for name, digest in digests.items())
            for file in index.files_from(number)
        }
        self.defaults = FolderDefaults(root, display=display, contract=means.contract)
        self._noted: Mapping[str, str] = json.loads(index.note(_DEFAULTS) or "{}")
        self._digests: dict[str, str] = {}
        self._files = 0
        self.changed = array("q")
        """Files that are new or have changed."""
        self.gone = False
        """Whether a file went."""

    def run(self, walk: Walk) -> None:
        batches = _batches(self._asked(walk))
        for asked, found in self._means.hands.results(
            examine, batches, self._given, worth=_worth_of_reading
        ):
            self._put(asked, found)
        if self._digests != self._noted:
            self._index.put_note(_DEFAULTS, json.dumps(self._digests))

    def _asked(self, walk: Walk) -> Iterator[_Asked]:
        """The files to look into, folder by folder."""
        index, stale = self._index, self._stale
        seen: set[bytes] = set()
        for listing in walk.listings():
            path = listing.folder.encode("utf-8", "surrogateescape")
            seen.add(path)
            folder = index.folder(path)
            self._note_defaults(listing.folder, folder)
            if (
                folder is None
                or not folder.is_same(listing)
                or (stale and not stale.isdisjoint(folder.file_ids()))
            ):
                yield from self._differing(path, listing, folder)
            else:
                self._tell(len(listing.names))
        for path in [path for path in index.folders() if path not in seen]:
            index.remove_folder(path)
            self.gone = True

    def _note_defaults(self, path: str, folder: Folder | None) -> None:
        """Has all files of a folder looked into whose defaults are others than they were."""
        below = self.defaults.of(path)
        digest = "" if below is None else below.digest
        if digest:
            self._digests[path] = digest
        if folder is not None and digest != self._noted.get(path, ""):
            self._stale.update(folder.file_ids())

    def _differing(self, path: bytes, listing: Listing, folder: Folder | None) -> Iterator[_Asked]:
        files, suspects, gone = (folder or _NO_FILES).compared(listing)
        update = _Update(path, listing, files)
        if self._stale:
            again = {at for at, file in enumerate(files) if file in self._stale}
            suspects = sorted(again.union(suspects))
        if gone:
            self._index.remove_files(gone)
            self.gone = True
        update.open = len(suspects)
        self._tell(len(listing.names) - len(suspects))
        if not suspects:
            self._write(update)
            return
        digests = self._index.digests(file for at in suspects if (file := update.files[at]))
        below = self.defaults.of(listing.folder)
        for position in suspects:
            file = update.files[position]
            digest = b"" if file in self._stale else digests.get(file, b"")
            wanted = Wanted(listing.opened(position), listing.shown(position), digest, below)
            yield _Asked(update, position, file, wanted)

    def _given(self, batch: list[_Asked]) -> tuple[list[Wanted], Rules, State | None]:
        """What `examine` is given for a batch."""
        return [asked.wanted for asked in batch], self._means.rules, self._means.state

    # -- into the index --

    def _put(self, asked: list[_Asked], results: Sequence[Examined | Stamp]) -> None:
        if self._means.stop():
            raise Interrupted("interrupted; nothing was planned")
        old: list[tuple[int, str, Examined]] = []
        new: list[tuple[int, str, Examined]] = []
        for one, result in zip(asked, results, strict=True):
            update, position, file = one.update, one.position, one.file
            if isinstance(result, Examined):
                if not file:
                    file = update.files[position] = self._index.new_file()
                    new.append((file, one.wanted.name, result))
                else:
                    old.append((file, one.wanted.name, result))
                self.changed.append(file)
                stamp = result.stamp
            else:
                stamp = result
            if stamp is None or max(stamp[1], stamp[2]) >= self._trusted_before:
                stamp = _NEVER
            update.listing.stamps[position * STAMP : (position + 1) * STAMP] = array("q", stamp)
            update.open -= 1
        self._index.put_files(old, known=True)
        self._index.put_files(new, known=False)
        for update in {id(one.update): one.update for one in asked}.values():
            if not update.open:
                self._write(update)
        self._tell(len(asked))

    def _write(self, update: _Update) -> None:
        listing = update.listing
        self._index.put_folder(update.path, listing.names, listing.stamps, update.files)

    def _tell(self, more: int) -> None:
        """Tell that so many more files are done with."""
        self._files += more
        self._means.tell(Told("reading", self._files))


_NO_FILES = Folder(b"", b"", b"")
_NEVER: Stamp = (-1, 0, 0, 0)
"""The stamp of what has to be looked into again."""


def _batches(asked: Iterator[_Asked]) -> Iterator[list[_Asked]]:
    batch: list[_Asked] = []
    size = 0
    for one in asked:
        batch.append(one)
        size += _size(one)
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _worth_of_reading(batch: list[_Asked]) -> float:
    """How much of what is worth another process it is to read the files of a batch."""
    return sum(map(_size, batch)) / _WORTH_A_PROCESS


def _size(asked: _Asked) -> int:
    """Bytes of a file."""
    return asked.update.listing.stamps[asked.position * STAMP]


class Declarations:
    """What the files below a root declared when they were read. Ends with the index that it is in."""

    def __init__(self, index: Index, findings: Sequence[Diagnostic], documents: int) -> None:
        self.index = index
        # What is wrong with defaults shows in every profile above them, and is told once.
        shared = deduplicate([each for each in findings if each.source.file.endswith(DEFAULTS)])
        others = (each for each in findings if not each.source.file.endswith(DEFAULTS))
        self.findings = tuple(sorted([*shared, *others], key=Diagnostic.sort_key))
        self.documents = documents

    @classmethod
    def read(
        cls, index: Index, root: Path, means: Means, display: Callable[[Path], str]
    ) -> Declarations:
        """Brings an index up to date with the files.

        Raises Interrupted when asked to stop.
        """
        walk = Walk(root, display)
        reading = _Reading(index, root, means, display)
        reading.run(walk)
        index.prepare()
        if (rivals := _rivals(index, reading)) is not None:
            together = _together(index.names(rivals), root, means, display, reading.defaults)
            index.put_note(_TOGETHER, encode_findings(together))
        findings = [
            *walk.diagnostics,
            *reading.defaults.findings,
            *index.findings(),
            *decode_findings(index.note(_TOGETHER) or "[]"),
        ]
        return cls(index, findings, index.count())

    @property
    def is_valid(self) -> bool:
        return not any(finding.is_error for finding in self.findings)

    def lifetimes(self) -> Iterator[tuple[str, int, str]]:
        """Address, id and lifetime of the profiles that have one."""
        return self.index.lifetimes()

    def profile(self, number: int) -> Profile:
        """The profile with an id."""
        return self.index.entries([number])[number].profile()

    def profiles(self) -> Profiles:
        """The profiles of valid declarations."""
        return Profiles(self.index, self.documents)


class Profiles:
    """The declared profiles in the order of their addresses, made anew each time they are asked for.

    Going through them raises ReconcileError once the workspace is closed."""

    def __init__(self, index: Index, count: int) -> None:
        self._index = index
        self._count = count
        index.lend(self)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Profile]:
        index = self._index
        rows = index.profiles()
        while some := [row[3] for row in islice(rows, _MADE_AT_ONCE)]:
            entries = index.entries(some)
            for number in some:
                yield entries[number].profile()


_DEFAULTS = "defaults"
"""The note of the digests of the defaults that the files of folders were read with."""
_TOGETHER = "findings together"
"""The note of what several documents do wrong together."""


def _rivals(index: Index, reading: _Reading) -> set[int] | None:
    """The files whose documents may claim the same; ``None`` if what was found of that still holds."""
    noted = index.note(_TOGETHER)
    if noted == _NOTHING_FOUND and len(reading.changed) <= _FEW_CHANGED:
        return index.rivals_of(reading.changed) or None
    if noted is None or reading.changed or reading.gone:
        return index.rivals()
    return None


_NOTHING_FOUND = encode_findings([])
_FEW_CHANGED = 10_000
"""Files for which looking for the rivals of each takes less time than going through all profiles."""


def _together(
    names: Collection[str],
    root: Path,
    means: Means,
    display: Callable[[Path], str],
    defaults: FolderDefaults,
) -> list[Diagnostic]:
    """Findings about documents that claim the same, those of files with some names. These are read
    again, since all is said of exact places."""
    if not names:
        return []
    documents, _ = rendered_documents(
        root, defaults, values=means.rules.given, display=display, names=names
    )
    return deduplicate(cross_file_findings(documents))
