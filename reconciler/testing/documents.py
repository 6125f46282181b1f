"""Profiles as the documents that would declare them, for fields that a test overrides. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.authoring.placeholders import escaped
from reconciler.core.facets.registry import EXCLUSIVE, facet_of, facet_of_member
from reconciler.core.lifetimes import is_time
from reconciler.core.profiles import Profile


def document_of(profile: Profile) -> dict[str, Any]:
    """A profile as the document that would declare it."""
    value: dict[str, Any] = {
        name: content
        for name, content in (
            ("customer_user_id", profile.customer_user_id),
            ("profile_id", profile.profile_id),
            ("platform", profile.platform),
        )
        if content is not None
    }
    for path, content in profile.values.items():
        if isinstance(content, str):
            content = escaped(content)
        if content is not None:
            content = facet_of(path).declared(content)
        group, dot, name = path.partition(".")
        if dot:
            value.setdefault(group, {})[name] = content
        else:
            value[group] = content
    meta: dict[str, Any] = {
        "labels": [*profile.labels],
        "forget": sorted(profile.forget),
        "exclusive": [EXCLUSIVE.group] if profile.exclusive else [],
    }
    value["meta"] = {name: content for name, content in meta.items() if content}
    if profile.protect:
        value["meta"]["protect"] = True
    if profile.lifetime is not None:
        kind = "expires" if is_time(profile.lifetime) else "ttl"
        value["meta"][kind] = profile.lifetime
    return value


def in_full(value: Mapping[str, Any]) -> dict[str, Any]:
    """A document with the short forms of tests as a file would have them."""
    return {name: facet_of_member(name).in_full(content) for name, content in value.items()}


def overridden(value: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A document with other fields. Mappings are joined; any other value replaces the one of the document."""
    out = dict(value)
    for name, content in overrides.items():
        before = out.get(name)
        both = isinstance(content, Mapping) and isinstance(before, Mapping)
        out[name] = {**before, **content} if both and before else content
    return out
