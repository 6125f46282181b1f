"""What is filled in is what planning and writing each change would have made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from benchmarks.corpora import document
from reconciler.authoring.declare import said_by
from reconciler.authoring.loader import load_text
from reconciler.core.contract_files import load_contract
from reconciler.core.plan import Change, line_of
from reconciler.core.planner import Options, Planner
from reconciler.core.profiles import About, Profile
from reconciler.core.transitions import Sending
from reconciler.planning.likeness import Alike, AlikeWatcher, Likeness
from reconciler.planning.packed import Packed, pack
from reconciler.reports.text import TextWatcher
from reconciler.reports.view import Tally
from reconciler.values import Scalar
from reconciler.workspace.facade import _Nobody

CONTRACT = load_contract()
ATTRIBUTES = ("custom_attributes.a%s", "custom_attributes.level", "custom_attributes.z")
PATHS = tuple(CONTRACT.ordered([*CONTRACT.fields, *ATTRIBUTES]))
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
TRICKY = (
    *("", "%s", "%", "##[x]", "::x", "\x00", "\x7f", '"', "\\", "\ue0007\ue001", "\\ue0007\\ue001"),
    *(0, 0.0, -0.0, 1, True, False, 1e300, 1e-7, 12345678901234567890, None),
)
VALUES = (
    st.sampled_from(TRICKY)
    | TEXTS
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
)


def planned(profile: Profile, options: Options) -> Change | None:
    planner = Planner(CONTRACT, options)
    return planner.plan(profile, None)


def likeness(options: Options = Options()) -> Likeness:  # noqa: B008
    return Likeness(lambda profile: planned(profile, options))


def alike(found: Likeness, packed: Packed, file: str) -> Alike | None:
    """What is found once others were like it."""
    for _ in range(2):
        found.of(packed, file)
    return found.of(packed, file)


class Seen:
    """What watchers come to."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.watcher = TextWatcher(Tally(), self.texts.append, color=True, ascii=False)

    def of_alike(self, one: Alike) -> bool:
        return self.watcher.add_alike(one)

    @property
    def told(self) -> object:
        tally = self.watcher.tally
        return self.texts, [*tally.hazards], +tally.basis, tally.write_only


@st.composite
def profiles(draw: st.DrawFn) -> tuple[Packed, str]:
    paths = tuple(sorted(draw(st.sets(st.sampled_from(PATHS))), key=PATHS.index))
    customer, profile_id = draw(st.none() | TEXTS), draw(st.none() | TEXTS)
    assume(customer or profile_id)
    about = About(
        customer or None,
        profile_id or None,
        draw(st.sampled_from((None, "iOS", "%s"))),
        protect=draw(st.sampled_from((False, False, True))),
        labels=draw(st.lists(TEXTS, max_size=2)),
        forget=draw(st.sampled_from(((), (), PATHS[:1]))),
        lifetime=draw(st.sampled_from((None, None, "2d"))),
    )
    values: list[Scalar | None] = [draw(VALUES) for _ in paths]
    offsets = draw(st.lists(st.integers(0, 20), min_size=len(paths), max_size=len(paths)))
    line = draw(st.sampled_from((1, 2, 9_990, 123_456)))
    return Packed(paths, values, about, offsets, {}, line, 1), draw(TEXTS)


@given(profiles(), st.booleans(), st.booleans())
@example(
    (
        Packed(
            ("first_name", *ATTRIBUTES),
            ["\ue0007\ue001", "%s", 0.0, True],
            About("\ue0000\ue001%", None, "iOS", protect=False, labels=["a", "%s"], forget=()),
            (1, 2, 3, 4),
            {},
            9_998,
            1,
        ),
        "\ue0005\ue001.yaml",
    ),
    True,
    True,
)
def test_what_is_filled_in_is_what_each_change_would_have_come_to(
    one: tuple[Packed, str], always: bool, reassert: bool
) -> None:
    packed, file = one
    options = Options(sending=Sending(send_ip_country_always=always), reassert=reassert)
    found = alike(likeness(options), packed, file)
    change = planned(packed.profile(file), options)
    if found is None:
        return
    assert change is not None
    assert found.line() == line_of(change)
    assert found.example.change.action is change.action
    assert len(found.example.change.requests) == len(change.requests)
    shown, filled = Seen(), Seen()
    shown.watcher.add(change)
    assert filled.of_alike(found)
    assert filled.told == shown.told


def corpus(numbers: Sequence[int]) -> list[Packed]:
    found = []
    for number in numbers:
        (made,), _ = load_text(document(number).encode(), "profiles/bench.yaml")
        layout, body = pack(said_by(made, CONTRACT), made.source)
        found.append(Packed.of(layout, body))
    return found


def test_nearly_all_of_a_corpus_is_like_something_before() -> None:
    found = likeness()
    answers = [found.of(packed, "a.yaml") for packed in corpus(range(400))]
    assert sum(answer is not None for answer in answers) > 250
    seen = Seen()
    assert all(seen.of_alike(answer) for answer in answers if answer is not None)


def packed(**about: Any) -> Packed:
    usual: dict[str, Any] = {
        "customer_user_id": "jane",
        "profile_id": None,
        "platform": None,
        "protect": False,
        "labels": [],
        "forget": [],
    }
    values: list[Scalar | None] = ["Jane", 4.0]
    paths = ("first_name", "custom_attributes.level")
    return Packed(paths, values, About(**{**usual, **about}), (1, 2), {}, 3, 1)


def test_a_usual_profile_has_an_example_once_it_was_met_before() -> None:
    found = likeness()
    answers = [found.of(packed(), "a.yaml") is not None for _ in range(3)]
    assert answers == [False, True, True]


@pytest.mark.parametrize(
    "about",
    [
        {"protect": True},
        {"forget": ["email"]},
        {"lifetime": "2d"},
        {"template": "qa-{index}"},
        {"exclusive": True},
        {"profile_id": "7a2b1c9e-1111-4111-8111-000000000001"},  # linked, which a hazard tells of
    ],
    ids=str,
)
def test_what_is_out_of_the_ordinary_is_planned_by_itself(about: dict[str, Any]) -> None:
    assert alike(likeness(), packed(**about), "a.yaml") is None


def test_lines_in_other_files_are_planned_by_themselves() -> None:
    shared = packed()._replace(files={"first_name": "_defaults.yaml"})
    assert alike(likeness(), shared, "a.yaml") is None


def test_nothing_and_zero_are_not_like_a_value() -> None:
    found = likeness()
    one, zero, nothing, false, empty = (
        alike(found, packed()._replace(values=["Jane", value]), "a.yaml")
        for value in (4.0, 0.0, None, False, "")
    )
    examples = {id(each.example) for each in (one, zero, nothing, false, empty) if each}
    assert len(examples) == 5


def test_what_cannot_be_planned_has_no_example() -> None:
    assert alike(Likeness(lambda profile: None), packed(), "a.yaml") is None


def test_what_is_made_of_a_value_has_no_example() -> None:
    def with_reason(profile: Profile) -> Change | None:
        change = planned(profile, Options())
        return change and change._replace(reason=f"because of {profile.values['first_name']}")

    assert alike(Likeness(with_reason), packed(), "a.yaml") is None


def test_a_text_that_is_made_of_a_value_is_written_by_itself() -> None:
    found = alike(likeness(), packed(), "a.yaml")
    assert found is not None
    assert found.text(lambda change: f"{change.address}: {change.fields[0].after}!", "loud") is None


@pytest.mark.parametrize(
    "watcher", [Tally(), Seen().watcher, _Nobody()], ids=lambda each: str(type(each))
)
def test_our_watchers_need_not_be_shown_each_change(watcher: object) -> None:
    assert isinstance(watcher, AlikeWatcher)
