"""The HTML report in a real Chromium: what a reviewer sees, does and hears; hostile values included."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.plan import Action, Basis, Change, FieldChange, Hazard, Mode, Op, Plan
from reconciler.core.rules import load_rules
from reconciler.reports.html import plan_html
from reconciler.reports.view import Links, PlanView
from tests.support.browser import PROGRAM, Browser
from tests.support.golden import VIEWS
from tests.support.hostile import harmless, hostile, plan_of
from tests.support.plans import EMPTY, plan_with

in_browser = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium here: `make browser` installs Debian's"
)


# --- without a browser ---------------------------------------------------------------------------


def test_the_policy_allows_this_style_and_this_script_only() -> None:
    text = plan_html(VIEWS["everything"]())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    allowed = policy[1].replace("&#39;", "'")
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in allowed
    assert allowed.startswith("default-src 'none'; ")
    assert "unsafe" not in allowed


def test_the_page_names_nothing_to_load() -> None:
    text = re.sub("<script.*?</script>", "", plan_html(VIEWS["everything"]()), flags=re.DOTALL)
    assert re.findall(r"(?:src|href|action|url)\s*[=(][^>]*", text) == ['href="#changes"']


def test_the_first_look_answers_a_reviewer() -> None:
    text = plan_html(VIEWS["everything"](), explained=load_rules())
    assert "apply will refuse this plan; 17 dangers" in text
    assert "The API never returns birthday, email, first_name and store" in text
    assert "<dt>Undo</dt><dd>Revert the commit and apply again" in text
    assert "A changed template or default can touch every profile at once." in text
    assert "Planned 2026-11-29 04:10 UTC with reconcile" in plan_html(VIEWS["templates"]())


def test_an_empty_plan_has_a_page_with_its_digest() -> None:
    text = plan_html(PlanView.of(EMPTY))
    assert "No changes: 3 unchanged." in text
    assert EMPTY.digest in text


def test_without_scripts_five_hundred_changes_are_there() -> None:
    text = plan_html(PlanView.of(many(600)))
    plain = re.search(r"<noscript>(.*?)</noscript>", text, re.DOTALL)
    assert plain is not None
    assert plain[1].count("<li ") == 500
    assert "the first 500 of 600 changes follow" in plain[1]


# --- in Chromium ---------------------------------------------------------------------------------


def many(number: int) -> Plan:
    def changes() -> Iterator[Change]:
        for index in range(number):
            deleted = index % 50 == 0
            fields = (
                FieldChange(
                    "first_name", Op.SET, f"Jane{index}", f"Janet{index}", Basis.RECORDED, 3
                ),
                FieldChange("custom_attributes.tier", Op.SET, None, "gold", Basis.NONE, 4),
            )
            yield Change(
                f"user-{index:05}",
                Action.DELETE if deleted else Action.UPDATE,
                "in no file" if deleted else "2 to set",
                () if deleted else fields,
                hazards=(Hazard("delete", "there is no undo"),) if deleted else (),
                labels=(f"team-{index % 3}",),
            )

    return plan_with(changes(), mode=Mode.PRUNE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Any:
    def open_(view: PlanView, fragment: str = "") -> Browser:
        path = tmp_path / "plan.html"
        path.write_text(plan_html(view), "utf-8")
        browser.open(path, fragment)
        return browser

    return open_


def status(browser: Browser) -> str:
    return str(browser.run("document.getElementById('status').textContent"))


def shown_addresses(browser: Browser) -> list[str]:
    script = "[...document.querySelectorAll('#list .address')].map((node) => node.textContent)"
    return list(browser.run(script))


@in_browser
def test_the_page_loads_nothing_and_logs_no_error(show: Any) -> None:
    page = show(VIEWS["everything"]())
    assert len(page.requests()) == 1
    assert page.complaints() == []


@in_browser
def test_the_gravest_changes_come_first(show: Any) -> None:
    page = show(VIEWS["everything"]())
    assert shown_addresses(page) == [
        "old-1",
        "partner-1",
        "qa-anna",
        "qa-jane",
        "qa-eve",
        "qa-tom",
        "old-2",
    ]
    page.run("(order.value = 'address', order.dispatchEvent(new Event('input')))")
    assert shown_addresses(page) == [
        "old-1",
        "old-2",
        "partner-1",
        "qa-anna",
        "qa-eve",
        "qa-jane",
        "qa-tom",
    ]


@in_browser
@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("q=janet", ["qa-jane"]),
        ("q=partners.yaml+email", ["partner-1"]),
        ("action=delete&action=link", ["old-1", "partner-1"]),
        ("label=smoke", ["qa-anna"]),
        ("field=email", ["partner-1", "qa-jane"]),
        ("hazard=two_steps", ["qa-jane"]),
        ("action=create&field=email", []),
        ("label=nobody", ["old-1", "partner-1", "qa-anna", "qa-jane", "qa-eve", "qa-tom", "old-2"]),
    ],
)
def test_a_link_to_a_filter_shows_what_it_says(
    show: Any, fragment: str, expected: list[str]
) -> None:
    assert shown_addresses(show(VIEWS["everything"](), fragment)) == expected


@in_browser
def test_the_changes_of_a_template_are_one_group_that_opens(show: Any) -> None:
    page = show(VIEWS["templates"]())
    assert shown_addresses(page) == ["qa-{n}", "qa-{n}"]
    assert status(page) == "13 changes"
    page.run("document.querySelector('#list details').open = true")
    page.run("new Promise(requestAnimationFrame)")
    page.run("document.querySelector('#list .requests').open = true")
    page.run("new Promise(requestAnimationFrame)")
    assert shown_addresses(page)[:6] == ["qa-{n}", *(f"qa-{n:04}" for n in range(8, 13))]
    page.run("(q.value = 'qa-0003', q.dispatchEvent(new Event('input', {bubbles: true})))")
    assert shown_addresses(page) == ["qa-0003"]


@in_browser
def test_a_hazard_has_one_colour_wherever_it_stands(show: Any) -> None:
    page = show(VIEWS["everything"]())
    page.run("document.querySelectorAll('#list details').forEach((one) => (one.open = true))")
    page.run("new Promise(requestAnimationFrame)")
    colors = page.run(COLORS)
    assert len(set(colors["grave"])) == len(set(colors["mild"])) == 1
    assert colors["grave"][0] != colors["mild"][0]


@in_browser
def test_a_command_is_copied_and_a_screen_reader_hears_it(show: Any) -> None:
    page = show(VIEWS["templates"]())
    page.run("document.querySelector('[data-copy=again]').click()")
    page.run("new Promise((done) => setTimeout(done, 50))")
    assert page.run("copied.textContent") in (
        "Copied: the command that plans again",
        "Selected: copy it by hand: the command that plans again",
    )
    assert page.run("document.getElementById('again').textContent") == "reconcile --env local plan"


@in_browser
def test_a_change_opens_side_by_side_with_its_request_on_demand(show: Any) -> None:
    page = show(VIEWS["everything"](), "q=janet")
    page.run("document.querySelector('#list details').open = true")
    page.run("new Promise(requestAnimationFrame)")
    row = "document.querySelector('#list tbody tr')"
    assert page.run(f"{row}.querySelector('.before').textContent") == '"Jane"'
    assert page.run(f"{row}.querySelector('.after').textContent") == '"Janet"'
    assert page.run(f"{row}.querySelector('.how').textContent") == "recorded · line 3"
    link = page.run(f"{row}.querySelector('.how a').href")
    assert link == "https://git.example/owner/name/blob/0123abc/apps/shop/profiles/qa/jane.yaml#L3"
    assert page.run("document.querySelectorAll('#list pre').length") == 0
    page.run("document.querySelector('.requests').open = true")
    page.run("new Promise(requestAnimationFrame)")
    assert '"first_name": "Janet"' in page.run(
        "document.querySelectorAll('#list pre')[1].textContent"
    )


@in_browser
def test_the_page_can_be_used_by_keyboard_alone(show: Any) -> None:
    page = show(VIEWS["everything"]())
    page.press("/", text="/", code=191)
    assert page.run("document.activeElement.id") == "q"
    page.type("anna")
    assert shown_addresses(page) == ["qa-anna"]
    assert page.run("location.hash") == "#q=anna"
    for _ in range(20):
        page.press("Tab", code=9)
        if page.run("document.activeElement.tagName") == "SUMMARY":
            break
    page.press("Enter", text="\r", code=13)
    page.run("new Promise(requestAnimationFrame)")
    assert page.run("document.querySelector('#list details').open") is True
    page.run("q.focus()")
    page.press("Escape", code=27)
    assert len(shown_addresses(page)) == 7


@in_browser
def test_elements_have_names_and_roles_for_assistive_programs(show: Any) -> None:
    page = show(VIEWS["everything"]())
    told = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in page.accessible()
        if not node.get("ignored")
    }
    assert ("heading", "Plan for production") in told
    assert ("searchbox", "Search") in told
    assert ("checkbox", "delete 1") in told
    assert {("combobox", name) for name in ("Label", "Field", "Hazard", "Order")} <= told
    assert ("status", "") in told or any(role == "status" for role, _ in told)
    assert page.run("document.documentElement.lang") == "en"


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(show: Any, scheme: str) -> None:
    page = show(VIEWS["everything"]())
    page.scheme(scheme)
    page.run("document.querySelectorAll('#list details').forEach((one) => (one.open = true))")
    page.run("new Promise(requestAnimationFrame)")
    assert page.run(CONTRAST) == []
    page.scheme("light")


@in_browser
def test_the_theme_can_be_changed(show: Any) -> None:
    page = show(VIEWS["everything"]())
    page.scheme("light")
    before = page.run("getComputedStyle(document.body).backgroundColor")
    page.run("theme.click()")
    assert page.run("getComputedStyle(document.body).backgroundColor") != before


@in_browser
@pytest.mark.parametrize("width", [320, 400, 1280])
def test_nothing_overflows_the_window(show: Any, width: int) -> None:
    view, _ = plan_of(hostile(1), 10)
    for shown in (VIEWS["everything"](), view):
        page = show(shown)
        page.size(width, 800)
        page.run("document.querySelectorAll('#list details').forEach((one) => (one.open = true))")
        page.run("new Promise(requestAnimationFrame)")
        assert page.run("document.documentElement.scrollWidth") <= width
    page.size(1280, 900)


@in_browser
def test_hostile_values_are_text_in_a_real_browser(show: Any) -> None:
    """Compared with a page of harmless text, no element, link or picture is there beyond it, nothing is
    loaded, and no script ran."""
    pages = []
    for texts in (islice(hostile(5), 10_000), harmless()):
        view, _ = plan_of(iter(texts), 60)
        page = show(view)
        page.run("document.querySelectorAll('#list details').forEach((one) => (one.open = true))")
        page.run("new Promise(requestAnimationFrame)")
        page.run("document.querySelectorAll('.requests').forEach((one) => (one.open = true))")
        page.run("new Promise(requestAnimationFrame)")
        assert len(page.requests()) == 1
        assert page.complaints() == []
        tags = page.run(TAGS)
        links = page.run("[...document.links].map((link) => link.href)")
        assert all(
            link.startswith(("https://git.example/o/n/blob/abc/", "file://")) for link in links
        )
        pages.append(tags)
    found, expected = pages
    # A file at the root has no link; equal labels are one, and so are hazards in the same words.
    optional = {"A", "SPAN", "OPTION", "BR", "LI", "CODE"}
    assert {tag: n for tag, n in found.items() if tag not in optional} == {
        tag: n for tag, n in expected.items() if tag not in optional
    }
    assert set(found) == set(expected)


@in_browser
def test_ten_thousand_changes_are_shown_a_hundred_at_a_time(show: Any) -> None:
    page = show(PlanView.of(many(10_000)))
    assert status(page) == "10,000 changes, 100 shown"
    page.run("more.click()")
    assert len(shown_addresses(page)) == 200
    page.run("(q.value = 'janet77', q.dispatchEvent(new Event('input', {bubbles: true})))")
    assert status(page) == "109 of 10,000 changes, 100 shown"
    page.run("(q.value = '', document.querySelector('#actions input').click())")
    assert status(page) == "200 of 10,000 changes, 100 shown"


@in_browser
def test_without_scripts_the_changes_can_be_read(show: Any, browser: Browser) -> None:
    browser.scripts(on=False)
    try:
        page = show(VIEWS["everything"]())
        read = page.run(
            "[...document.querySelectorAll('noscript .address')].map((one) => one.textContent)"
        )
        assert read == ["old-1", "old-2", "partner-1", "qa-anna", "qa-eve", "qa-jane", "qa-tom"]
        assert page.run("document.getElementById('filters').checkVisibility()") is False
    finally:
        browser.scripts(on=True)


@in_browser
def test_only_web_addresses_become_links(show: Any) -> None:
    view = PlanView.of(many(3), links=Links("javascript:alert(1)//"))
    page = show(view)
    page.run("document.querySelectorAll('#list details').forEach((one) => (one.open = true))")
    page.run("new Promise(requestAnimationFrame)")
    assert page.run("[...document.querySelectorAll('main a')].length") == 0


COLORS = """(() => {
  const found = {grave: [], mild: []};
  for (const name of ['grave', 'mild']) {
    for (const one of document.querySelectorAll(`.${name}`)) found[name].push(getComputedStyle(one).color);
  }
  found.grave.push(getComputedStyle(document.querySelector('.hazards h2')).color);
  return found;
})()"""

TAGS = """(() => {
  const found = {};
  for (const element of document.querySelectorAll('*')) {
    if (element.closest('noscript')) continue;
    found[element.tagName] = (found[element.tagName] ?? 0) + 1;
  }
  return found;
})()"""

CONTRAST = """(() => {
  const linear = (value) => {
    value /= 255;
    return value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  };
  const luminance = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const weak = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest('noscript, script, .skip')) continue;
    const pair = [parse(getComputedStyle(element).color), ground(element)].map(luminance);
    const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
    if (ratio < 4.5) weak.push(`${element.className}: ${element.textContent} ${ratio}`);
  }
  return weak;
})()"""
