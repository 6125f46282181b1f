"""Makes files and records of profiles that exist at the API.

A file is written whole before its profile is recorded. If the program ends in between, the same command finds
the profile declared, and records it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from reconciler.authoring.claims import cross_file_findings
from reconciler.authoring.declare import profile_of
from reconciler.authoring.documents import Document
from reconciler.authoring.table import read_table
from reconciler.authoring.transcript import TextReading, identifiers, transcribe
from reconciler.authoring.yaml_writer import document_yaml
from reconciler.config.settings import Config
from reconciler.core.facets.registry import READABLE
from reconciler.core.options import Selection
from reconciler.core.profiles import PROFILE_PREFIX, Profile
from reconciler.core.records import Fact, Known, Presence, Record
from reconciler.core.transitions import LookUp, Observed, declared_by
from reconciler.errors import Diagnostic, Interrupted, Source, UsageError, error, warning
from reconciler.remote.refresh import ReadBack
from reconciler.values import FieldPath, same, shown
from reconciler.workspace.new_files import NewFiles
from reconciler.workspace.refresh import Refresh
from reconciler.workspace.results import invalid_files
from reconciler.workspace.sources import Sources
from reconciler.workspace.state_admin import StateAdmin

_NO_FILES = frozenset({"file/missing", "file/no-profiles"})
"""The rules of a folder without any profile file: an import may make the first."""
_IN_THE_WAY = "a file of this name is there, and does not declare the profile"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


class ImportOutcome(StrEnum):
    """What became of a profile that was to be imported."""

    IMPORTED = "imported"
    """Its file was written, and it was recorded."""
    RECORDED = "recorded"
    """A file declared it already. It was recorded, and the file stayed as it was."""
    ALREADY = "already"
    """It is declared and recorded."""
    WRITTEN = "written"
    """Its file was written from a table; nothing was recorded."""
    MISSING = "missing"
    """The API knows no such profile."""
    SKIPPED = "skipped"
    """Something is in the way, such as a file of the same name."""
    FAILED = "failed"
    """It could not be read."""

    @property
    def is_fine(self) -> bool:
        """Whether nothing is left to do."""
        return self in (
            *(ImportOutcome.IMPORTED, ImportOutcome.RECORDED, ImportOutcome.ALREADY),
            ImportOutcome.WRITTEN,
        )


class ImportResult(NamedTuple):
    """What became of one profile. ``omitted`` names the fields that the API tells and that the file does not
    declare, each with a reason."""

    address: str
    outcome: ImportOutcome
    file: str = ""
    reason: str = ""
    omitted: tuple[tuple[FieldPath, str], ...] = ()
    findings: tuple[Diagnostic, ...] = ()
    """Warnings about the file."""


class ImportRequest(NamedTuple):
    """What is to be imported."""

    addresses: Sequence[str]
    folder: Path | None = None
    """Where the files go; by default to the folder of all profiles."""
    groups: Collection[str] = ()
    """The groups of fields that are read by requests of their own."""
    dry_run: bool = False


class Importing:
    """Imports profiles into the files and the state of a workspace."""

    def __init__(
        self,
        config: Config,
        *,
        sources: Sources,
        state: StateAdmin,
        refresh: Refresh,
    ) -> None:
        self._config = config
        self._sources = sources
        self._state = state
        self._refresh = refresh

    def run(self, request: ImportRequest, on_result: Callable[[ImportResult], None]) -> None:
        """Imports profiles. ``on_result`` is given what became of each, once that is durable.

        Raises Interrupted when asked to stop; InputError where a profile file is invalid; UsageError for a
        folder or a group that will not do; and the errors of `Refresh.read_back`.
        """
        unknown = {*request.groups} - {facet.group for facet in READABLE}
        if unknown:
            known = ", ".join(facet.group for facet in READABLE)
            raise UsageError(
                f"{', '.join(sorted(unknown))} cannot be read by a request of its own",
                hint=f"There are {known}." if known else "There is none in this version.",
            )
        files = NewFiles(self._config, request.folder)
        pending = _Pending(request, files, sources=self._sources, now=self._refresh.now)
        with ExitStack() as stack:
            writer = None if request.dry_run else stack.enter_context(self._state.locked("import"))
            wanted = pending.unknown(
                _declared(self._sources), list(self._state.store.records()), on_result=on_result
            )
            reads = self._refresh.read_back(
                wanted,
                Selection(),
                writer=writer,
                all_may_be_gone=True,
                to_record=pending.to_record,
            )
            for read in reads:
                on_result(pending.result(read))
        if self._refresh.stop():
            raise Interrupted("interrupted; what was imported is kept")


def write_table(
    text: str,
    name: str,
    *,
    request: ImportRequest,
    config: Config,
    sources: Sources,
    on_result: Callable[[ImportResult], None],
) -> None:
    """Writes a file for each row of a table that is called ``name``, offline; nothing is recorded.

    Raises InputError, with every finding, where the table or a profile file is invalid; then nothing is
    written.
    """
    files = NewFiles(config, request.folder)
    defaults = sources.defaults_of(files.folder)
    documents, findings = read_table(text, name, contract=sources.contract)
    of_rows = [[*sources.findings_of([document])] for document in documents]
    findings += chain.from_iterable(of_rows)
    findings += cross_file_findings(documents)
    if any(finding.is_error for finding in findings):
        raise invalid_files(findings)
    declared = {profile.address: profile.source.file for profile in _declared(sources)}
    results: list[tuple[ImportResult, Path, str]] = []
    for document, of_row in zip(documents, of_rows, strict=True):
        profile = profile_of(document, sources.contract)
        path, content = files.path(profile.address), document_yaml(document)
        file = sources.display(path)
        if profile.address in declared:
            result = ImportResult(profile.address, ImportOutcome.ALREADY, declared[profile.address])
        elif files.holds(path):
            reason = f"{_IN_THE_WAY}; the row is at {profile.source}"
            result = ImportResult(profile.address, ImportOutcome.SKIPPED, file, reason)
        else:
            reading = sources.read_text(content, path, defaults=defaults)
            findings += _unlike(profile, reading)
            files.note(path)
            added = _added_by_defaults(reading, profile.values, at=profile.source)
            warnings = (*of_row, *added)
            result = ImportResult(profile.address, ImportOutcome.WRITTEN, file, findings=warnings)
        results.append((result, path, content))
    if any(finding.is_error for finding in findings):
        raise invalid_files(findings)
    for result, path, content in results:
        if result.outcome is ImportOutcome.WRITTEN and not request.dry_run:
            files.write(path, content)
        on_result(result)


def _unlike(profile: Profile, reading: TextReading) -> Iterator[Diagnostic]:
    """A finding at the row of a table if its file would not declare the same."""
    again = reading.profile
    if again is not None and all(
        path in again.values and same(again.values[path], value)
        for path, value in profile.values.items()
    ):
        return
    problems = [finding for finding in reading.findings if finding.is_error]
    yield error(
        "table/row",
        problems[0].message if problems else "no file declares just what this row does",
        source=profile.source,
        hint=problems[0].hint if problems else "Take out characters that do not show.",
    )


def _added_by_defaults(
    reading: TextReading, values: Collection[FieldPath], *, at: Source | None = None
) -> Iterator[Diagnostic]:
    """A warning where the defaults of a folder declare more than the ``values`` of a new file. It stands
    where the first of them does, or ``at`` a place."""
    profile = reading.profile
    if profile is None:
        return
    added = [path for path in profile.values if path not in values]
    if added:
        first = Source(profile.files.get(added[0], profile.source.file), profile.lines[added[0]], 1)
        yield warning(
            "import/defaults",
            f"the defaults of its folder give {profile.address} more than was imported: "
            f"{', '.join(added)}; the next plan sends that",
            source=first if at is None else at,
            hint="Import into another folder with --to, or have the next plan reviewed.",
        )


class _Pending:
    """The profiles of one import, and what becomes of them."""

    def __init__(
        self,
        request: ImportRequest,
        files: NewFiles,
        *,
        sources: Sources,
        now: Callable[[], float],
    ) -> None:
        self._request = request
        self._files = files
        self._sources = sources
        self._now = now
        self._defaults = sources.defaults_of(files.folder)
        self._declared: dict[str, Profile] = {}
        self._owners: dict[str, str] = {}
        """The addresses of declared and recorded profiles, by each of their identifiers."""
        self._paths: dict[str, Path] = {}
        """The files to be written."""
        self._results: dict[str, ImportResult] = {}

    def unknown(
        self,
        declared: Iterable[Profile],
        recorded: Iterable[Record],
        *,
        on_result: Callable[[ImportResult], None],
    ) -> list[Record]:
        """What is to be read, as records of which nothing is known. The others are reported."""
        wanted = dict.fromkeys(map(_address, self._request.addresses))
        for profile in declared:
            if profile.address in wanted:
                self._declared[profile.address] = profile
            self._own(profile)
        known = set()
        for record in recorded:
            known.add(record.address)
            self._own(record)
        records = []
        for address in wanted:
            result = self._before(address, is_recorded=address in known)
            if result is not None:
                on_result(result)
            else:
                records.append(self._record(address))
        return records

    def _own(self, one: Profile | Record) -> None:
        for name in (one.customer_user_id, one.profile_id):
            if name is not None:
                self._owners.setdefault(name, one.address)

    def _before(self, address: str, *, is_recorded: bool) -> ImportResult | None:
        """What can be said of a profile before it is read."""
        profile = self._declared.get(address)
        if profile is not None and is_recorded:
            return ImportResult(address, ImportOutcome.ALREADY, profile.source.file)
        if is_recorded:
            reason = "it is recorded, and no file declares it: plan shows what becomes of it"
            return ImportResult(address, ImportOutcome.SKIPPED, reason=reason)
        if profile is None:
            text = document_yaml(Document(identifiers(address), Source(""), {}))
            path = self._files.path(address)
            reading = self._sources.read_text(text, path, defaults=None)
            if reading.profile is None:
                first = next(finding for finding in reading.findings if finding.is_error)
                return ImportResult(address, ImportOutcome.SKIPPED, reason=first.message)
            owner = self._owners.get(address.removeprefix(PROFILE_PREFIX))
            if owner is not None:
                return _owned(address, owner)
            if self._files.holds(path):
                return self._in_the_way(address, path)
            self._files.note(path)
            self._paths[address] = path
        return None

    def _in_the_way(self, address: str, path: Path) -> ImportResult:
        file = self._sources.display(path)
        return ImportResult(address, ImportOutcome.SKIPPED, file, _IN_THE_WAY)

    def _record(self, address: str) -> Record:
        """A record of which nothing is known, to be read with all that the request names."""
        declared = self._declared.get(address)
        paths = {*declared.values} if declared is not None else set()
        paths |= {facet.path("") for facet in READABLE if facet.group in self._request.groups}
        is_anonymous = address.startswith(PROFILE_PREFIX)
        profile_id = address.removeprefix(PROFILE_PREFIX) if is_anonymous else None
        if declared is not None and declared.profile_id is not None:
            profile_id = declared.profile_id
        return Record(
            address,
            None if profile_id else address,
            profile_id,
            presence=Presence.UNCONFIRMED,
            facts={path: Fact(Known.UNKNOWN) for path in paths},
        )

    def to_record(self, read: ReadBack) -> Record | None:
        """Writes the file of a profile that was read, and returns its record; ``None`` if it is not to be
        recorded."""
        address, observed = read.before.address, read.observed
        if observed is None:
            return None
        profile = self._declared.get(address)
        if profile is not None:
            outcome = ImportOutcome.RECORDED
            self._results[address] = ImportResult(address, outcome, profile.source.file)
            return _recorded(profile, observed)
        names = {observed.profile_id, observed.customer_user_id or observed.profile_id}
        owner = next((self._owners[name] for name in sorted(names) if name in self._owners), None)
        if owner is not None:
            self._results[address] = _owned(address, owner)
            return None
        path = self._paths[address]
        transcript = transcribe(
            observed,
            address=address,
            contract=self._sources.contract,
            read=lambda text: self._sources.read_text(text, path, defaults=self._defaults),
            now=self._now(),
        )
        profile = transcript.reading.profile
        if profile is None:
            first = next(filter(lambda each: each.is_error, transcript.reading.findings), None)
            reason = first.message if first is not None else "no file can declare it"
            self._results[address] = ImportResult(address, ImportOutcome.SKIPPED, reason=reason)
            return None
        if not self._request.dry_run and not self._files.write(path, transcript.text):
            self._results[address] = self._in_the_way(address, path)
            return None
        for name in names:
            self._owners[name] = address
        self._results[address] = ImportResult(
            address,
            ImportOutcome.IMPORTED,
            self._sources.display(path),
            omitted=tuple(sorted(transcript.omitted.items())),
            findings=(
                *transcript.reading.findings,
                *_added_by_defaults(transcript.reading, transcript.declared),
            ),
        )
        return _recorded(profile, observed)

    def result(self, read: ReadBack) -> ImportResult:
        """What became of a profile that was asked for."""
        address = read.before.address
        result = self._results.pop(address, None)
        if result is not None:
            return result
        if read.answer.is_missing:
            return ImportResult(
                address, ImportOutcome.MISSING, reason="the API knows no such profile"
            )
        return ImportResult(address, ImportOutcome.FAILED, reason=read.drift.reason)


def _declared(sources: Sources) -> Iterable[Profile]:
    """The profiles of all files; none where there is no file yet.

    Raises InputError, with every finding, where one is an error.
    """
    checked = sources.validate()
    rules = {finding.rule for finding in checked.diagnostics if finding.is_error}
    if rules - _NO_FILES:
        raise invalid_files(checked.diagnostics)
    return () if rules else checked.profiles


def _address(text: str) -> str:
    """The address that a user names; a profile id has one spelling."""
    lower = text.lower()
    is_id = lower.startswith(PROFILE_PREFIX) and _UUID(lower.removeprefix(PROFILE_PREFIX))
    return lower if is_id else text


def _owned(address: str, owner: str) -> ImportResult:
    reason = f"the same profile is declared or recorded as {shown(owner)}"
    return ImportResult(address, ImportOutcome.SKIPPED, reason=reason)


def _recorded(profile: Profile, observed: Observed) -> Record | None:
    """The record of a profile that exists and that a file declares."""
    record = LookUp(observed).record(profile)
    return None if record is None else declared_by(record, profile)
