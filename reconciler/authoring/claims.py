"""Identifiers and devices, which only one profile may have. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.authoring.documents import Document
from reconciler.authoring.facets.registry import SOLE
from reconciler.authoring.finding_limits import LimitedFindings
from reconciler.authoring.phrases import quote
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

    def add(self, document: Document) -> None:
        groups = (self.customers, self.profiles, self.devices)
        for group, claimed in zip(groups, claims(document), strict=True):
            if claimed is not None:
                _claim(group, claimed, document=document)

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
