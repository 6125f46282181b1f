"""A profile with nearly everything, as documents for validation, and values made from it by chance."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from reconciler.authoring.documents import Document
from reconciler.authoring.loader import load_text
from reconciler.authoring.validation import validate_documents
from reconciler.core.contract_files import load_contract
from reconciler.errors import Diagnostic, Source

UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

SEED: dict[str, Any] = {
    "customer_user_id": "qa-jane",
    "platform": "iOS",
    "first_name": "Jane",
    "last_name": "Doe",
    "gender": "f",
    "email": "jane.doe@example.com",
    "phone_number": "+1234567890",
    "birthday": "2000-12-31",
    "ip_country": "FR",
    "store_country": "NO",
    "store": "app_store",
    "analytics_disabled": False,
    "custom_attributes": {"favourite_sport": "yoga", "level": 5, "beta": True, "old_flag": None},
    "installation_meta": {"device_id": UUID, "locale": "en", "android_id": "", "os": None},
    "meta": {"labels": ["qa", "smoke"], "protect": True, "forget": ["custom_attributes.gone"]},
}


def document(value: Any, file: str = "a.yaml", line: int = 1) -> Document:
    return Document(value, Source(file, line, 1), {})


def check(text: str, dialect: str = "guide") -> list[Diagnostic]:
    documents, diagnostics = load_text(text.encode(), "a.yaml")
    assert not any(diagnostic.is_error for diagnostic in diagnostics)
    return validate_documents(documents, load_contract(dialect))


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 10**400, 1e300, 0.0, 1.0, -0.0]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(
        [
            *("", "\n", "f", "f\n", "FR", "FR\n", "fr", "a@b.c", "a@b.c\n", "a\u2028@b", "a\x1c@b"),
            *("a\ufeff@b", "a\x85@b", "2000-12-31", "2000-02-30", "0000-01-01", "20001231"),
            *("٢٠٠٠-١٢-٣١", "2000-12-31\n", UUID, UUID + "\n", UUID.replace("-", ""), UUID.upper()),
            *(
                f"{{{UUID}}}",
                "1.2.3.4",
                "01.2.3.4",
                "1.2.3.4\n",
                "1.2.3",
                "256.1.1.1",
                "\u0661.2.3.4",
            ),
            *("profile:x", "a\n", "iOS", "stripe", "paddle", "qa", "x" * 30, "😀" * 16, "é" * 31),
        ]
    ),
)
NAMES = st.sampled_from(
    [
        *load_contract("openapi").fields,
        *("customer_user_id", "profile_id", "platform", "custom_attributes", "installation_meta"),
        *("meta", "device_id", "locale", "labels", "protect", "forget", "key", "value", "nothing"),
    ]
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """The profile of the seed with some of it removed, replaced or added, at any depth."""
    value: Any = deepcopy(SEED)
    for _ in range(draw(st.integers(1, 3))):
        target: Any = value
        while True:
            inner = [
                item
                for item in (target.values() if isinstance(target, dict) else target)
                if isinstance(item, dict | list) and item
            ]
            if not inner or draw(st.booleans()):
                break
            target = draw(st.sampled_from(inner))
        if isinstance(target, list):
            target[draw(st.integers(0, len(target) - 1))] = draw(ANYTHING)
        elif draw(st.integers(0, 3)) == 0 and len(target) > 1:
            del target[draw(st.sampled_from(sorted(target)))]
        else:
            target[draw(st.sampled_from(sorted(target)) | NAMES)] = draw(ANYTHING)
    return value
