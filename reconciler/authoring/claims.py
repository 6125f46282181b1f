"""Identifiers and devices, which only one profile may have. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.authoring.documents import Document
from reconciler.authoring.facets.registry import SOLE
from reconciler.authoring.finding_limits import LimitedFindings
from reconciler.authoring.phrases import quote
from reconciler.core.profiles import PROFILE_PREFIX, address_of
from reconciler.core.renames import RULE, former_address
from reconciler.errors import HIDDEN, Diagnostic, Message, Source, error, warning


def cross_file_findings(documents: Iterable[Document]) -> list[Diagnostic]:
    """The findings about documents that claim the same identifier or device; at most so many of a rule for
    each file: see `LimitedFindings`."""
    claimed_once = _Claims()
    for document in documents:
        claimed_once.add(document)
    findings = LimitedFindings(distinct=True)
    findings.extend(claimed_once.clashes())
    return findings.listed()


def claims(document: Document) -> tuple[str | None, str | None, str | None]:
    """The ``customer_user_id``, ``profile_id`` in lower case and ``device_id`` of a document."""
    value: Any = document.value
    if type(value) is not dict:
        return None, None, None
    customer, profile = value.get("customer_user_id"), value.get("profile_id")
    content = value.get(SOLE.group)
    device = content.get(SOLE.sole_key) if type(content) is dict else None
    return (
        customer if type(customer) is str else None,
        profile.lower() if type(profile) is str else None,
        device if type(device) is str and device else None,
    )


class _Claims:
    """Identifiers and devices, with the documents that claim them."""

    def __init__(self) -> None:
        self.customers: dict[str, Document | list[Document]] = {}
        self.profiles: dict[str, Document | list[Document]] = {}
        self.devices: dict[str, Document | list[Document]] = {}
        self.formers: list[tuple[str, Document, int]] = []
        """Former addresses, each with its document and its place among the others."""

    def add(self, document: Document) -> None:
        groups = (self.customers, self.profiles, self.devices)
        for group, claimed in zip(groups, claims(document), strict=True):
            if claimed is not None:
                _claim(group, claimed, document=document)
        self.formers += [(former, document, index) for index, former in _former_addresses(document)]

    def clashes(self) -> Iterator[Diagnostic]:
        reported: set[tuple[Source, Source]] = set()
        for name, claims in (("customer_user_id", self.customers), ("profile_id", self.profiles)):
            for identifier, first, document in _clashes(claims):
                pair = (first.source, document.source)
                if pair not in reported:
                    reported.add(pair)
                    yield error(
                        "profile/duplicate-address",
                        Message.of(
                            f"`{name}` ",
                            quote(identifier),
                            f" is declared twice, first at {first.at((name,))}",
                        ),
                        source=document.at((name,)),
                        hint="Keep one of the two documents.",
                    )
        for device, first, document in _clashes(self.devices):
            path = (SOLE.group, SOLE.sole_key)
            yield warning(
                "profile/duplicate-device",
                Message.of(
                    "the device_id ",
                    HIDDEN if path in first.environment | document.environment else quote(device),
                    f" is also declared at {first.at(path)}",
                ),
                source=document.at(path),
                hint="A device belongs to one profile; give each its own, or remove one.",
            )
        yield from self._former_clashes()

    def _former_clashes(self) -> Iterator[Diagnostic]:
        """Former addresses that another document names too, or has."""
        first: dict[str, Source] = {}
        for former, document, index in sorted(
            self.formers, key=lambda item: (item[1].source, item[2])
        ):
            place = document.at(("meta", "previously", index))
            owner = self._owner(former)
            if owner is not None and owner is not document:
                yield error(
                    RULE,
                    Message.of(quote(former), f" is still declared, at {owner.source}"),
                    source=place,
                    hint="A record is renamed once nothing declares its former address. Remove one.",
                )
            elif former in first:
                yield error(
                    RULE,
                    Message.of(
                        quote(former), f" is named a former address twice, first at {first[former]}"
                    ),
                    source=place,
                    hint="One profile has been there. Keep one of the two.",
                )
            first.setdefault(former, place)

    def _owner(self, address: str) -> Document | None:
        """The document that has an address."""
        if not address.startswith(PROFILE_PREFIX):
            owners = self.customers.get(address)
        else:
            owners = self.profiles.get(address.removeprefix(PROFILE_PREFIX))
        documents = owners if isinstance(owners, list) else [owners] if owners is not None else []
        named = (each for each in documents if _address(each) == address)
        return next(named, None)


def _address(document: Document) -> str:
    customer, profile_id, _ = claims(document)
    return address_of(customer, profile_id)


def _former_addresses(document: Document) -> Iterator[tuple[int, str]]:
    """The former addresses that a document names, each with its place among them."""
    value: Any = document.value
    meta = value.get("meta") if type(value) is dict else None
    formers = meta.get("previously") if type(meta) is dict else None
    for index, former in enumerate(formers if type(formers) is list else ()):
        if type(former) is str:
            yield index, former_address(former)


def _claim(claims: dict[str, Document | list[Document]], key: str, *, document: Document) -> None:
    others = claims.setdefault(key, document)
    if others is document:
        return
    if isinstance(others, list):
        others.append(document)
    else:
        claims[key] = [others, document]


def _clashes(
    claims: Mapping[str, Document | list[Document]],
) -> Iterator[tuple[str, Document, Document]]:
    """Each later claim of something with the first one, by place."""
    for key, documents in claims.items():
        if isinstance(documents, list):
            first, *later = sorted(documents, key=lambda document: document.source)
            for document in later:
                yield key, first, document
