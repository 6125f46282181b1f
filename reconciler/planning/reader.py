"""Reading and checking single files, in whichever process has time for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple
from zlib import adler32, crc32

from reconciler.authoring.claims import claims
from reconciler.authoring.declare import parse_profile
from reconciler.authoring.defaults import Defaults
from reconciler.authoring.documents import Document
from reconciler.authoring.facets.registry import listed_findings
from reconciler.authoring.finding_limits import LimitedFindings
from reconciler.authoring.loader import load_quickly, load_text
from reconciler.authoring.placeholders import PlaceholderValues
from reconciler.authoring.privacy import Guard, personal_data_findings
from reconciler.authoring.render import ExpandedFile, expand_file
from reconciler.authoring.validation import document_findings
from reconciler.authoring.walk import Stamp, read_file
from reconciler.core.contract import Contract
from reconciler.core.contract_files import load_contract
from reconciler.core.digests import wanted_digest
from reconciler.core.profiles import address_of
from reconciler.errors import Diagnostic
from reconciler.planning.index import FileResult, IndexedDocument
from reconciler.planning.packed import PackedProfile

_STAGED = 64
"""Files of which each is read before any is parsed, and so on: a processor that does one thing at a
time takes a quarter less of it."""


class ParseOptions(NamedTuple):
    """The options that the meaning of a file depends on, besides its content and its defaults. Any executor
    can carry them."""

    dialect: str
    placeholders: PlaceholderValues = PlaceholderValues()
    guard: Guard = Guard()
    listed: Mapping[str, tuple[str, ...]] = {}
    """The keys that profiles may name below a member with several fields, where they are limited."""


class FileRequest(NamedTuple):
    """A file to be read."""

    path: str
    name: str
    """In messages."""
    digest: bytes
    """The digest of its content when it was last read; empty if it never was."""
    defaults: Defaults | None
    """The defaults that its profiles are laid over."""


class _ReadFile(NamedTuple):
    """A file between two stages."""

    request: FileRequest
    data: bytes
    stamp: Stamp
    digest: bytes
    content: ExpandedFile


def read_files(requests: Sequence[FileRequest], options: ParseOptions) -> list[FileResult | Stamp]:
    """The results of reading some files. A file with the known content gives only its stamp."""
    contract = load_contract(options.dialect)
    return [
        result
        for start in range(0, len(requests), _STAGED)
        for result in _read_together(
            requests[start : start + _STAGED], options=options, contract=contract
        )
    ]


def _read_together(
    requests: Sequence[FileRequest], *, options: ParseOptions, contract: Contract
) -> Iterator[FileResult | Stamp]:
    contents = [read_file(request.path, request.name) for request in requests]
    stages: list[_ReadFile | FileResult | Stamp] = []
    for request, content in zip(requests, contents, strict=True):
        if isinstance(content, Diagnostic):
            stages.append(FileResult(None, b"", (content,), ()))
            continue
        data, stamp = content
        digest = blake2b(data, digest_size=16).digest()
        if digest == request.digest:
            stages.append(stamp)
        else:
            loaded = load_quickly(data, request.name)
            expanded = expand_file(
                data, loaded, defaults=request.defaults, values=options.placeholders
            )
            stages.append(_ReadFile(request, data, stamp, digest, expanded))
    clean = [
        isinstance(stage, _ReadFile)
        and next(_findings(stage.content, options=options, contract=contract), None) is None
        for stage in stages
    ]
    for stage, is_clean in zip(stages, clean, strict=True):
        if isinstance(stage, _ReadFile):
            yield _result_of(stage, options=options, contract=contract, is_clean=is_clean)
        else:
            yield stage


def _findings(
    content: ExpandedFile, *, options: ParseOptions, contract: Contract
) -> Iterator[Diagnostic]:
    """The findings of reading a file, and those about each of its documents by itself."""
    guard = options.guard
    return chain(
        content.findings,
        document_findings(content.documents, contract),
        listed_findings(content.documents, contract, listed=options.listed),
        chain.from_iterable(
            personal_data_findings(document, contract, guard=guard)
            for document in content.documents
        ),
    )


def _result_of(
    file: _ReadFile, *, options: ParseOptions, contract: Contract, is_clean: bool
) -> FileResult:
    request, content = file.request, file.content
    findings: Sequence[Diagnostic] = ()
    is_valid = True
    if not is_clean:  # read once more, by the reader that knows exact places
        loaded = load_text(file.data, request.name)
        content = expand_file(
            file.data, loaded, defaults=request.defaults, values=options.placeholders
        )
        limited = LimitedFindings(distinct=content.sources is not None)
        limited.extend(_findings(content, options=options, contract=contract))
        findings = limited.listed()
        is_valid = not any(finding.is_error for finding in findings)
    documents = [
        _indexed(document, contract=contract, is_valid=is_valid) for document in content.documents
    ]
    return FileResult(file.stamp, file.digest, findings, documents, content.sources)


def _indexed(document: Document, *, contract: Contract, is_valid: bool) -> IndexedDocument:
    customer, profile_id, device = claims(document)
    address = address_of(customer, profile_id) if customer or profile_id else None
    number = None if device is None else _device_number(device)
    if not is_valid:
        return IndexedDocument(address, profile_id, number)
    profile = parse_profile(document, contract)
    return IndexedDocument(
        address,
        profile_id,
        number,
        packed=PackedProfile.of(profile, document.source),
        wanted=wanted_digest(profile.meta, paths=profile.paths, values=profile.values),
        lifetime=profile.meta.lifetime,
        previously=profile.meta.previously,
    )


def _device_number(device: str) -> int:
    data = device.encode("utf-8", "surrogatepass")
    return crc32(data) << 31 ^ adler32(data)
