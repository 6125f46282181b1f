"""What it costs to show a plan, against writing it down, in one run; and the report in Chromium, if there
is one.

``make bench``, or ``python -m benchmarks.reports [CHANGES]``. The quotients are comparable between machines,
the seconds are not.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.measuring import best
from reconciler.core.contract_files import load_contract
from reconciler.core.plan import Action, Basis, Change, FieldChange, Hazard, Head, Mode, Op, Request
from reconciler.core.plan_format import assemble_plan, to_lines
from reconciler.errors import Source
from reconciler.reports.ci import plan_annotations
from reconciler.reports.html import plan_html
from reconciler.reports.json import plan_json_parts
from reconciler.reports.markdown import plan_markdown
from reconciler.reports.masking import Mask
from reconciler.reports.plan_text import plan_text_parts
from reconciler.reports.style import Pen
from reconciler.reports.view import PlanView
from tests.support.browser import PROGRAM, Browser


def change(number: int) -> Change:
    """An update of the usual size, every fiftieth a deletion."""
    address = f"bench-{number:07}"
    source = Source(f"profiles/{number // 10:06}.yaml", number % 10 * 14 + 1)
    if number % 50 == 0:
        hazard = Hazard("delete", "will be deleted with all related data; there is no undo")
        request = Request("DELETE", "/x", {"adapty-customer-user-id": address})
        return Change(address, Action.DELETE, "in no file", (), (request,), (hazard,), source, 1)
    fields = (
        FieldChange("first_name", Op.SET, f"Jane {number}", f"Janet {number}", Basis.RECORDED, 3),
        FieldChange("email", Op.CLEAR, f"{number}@example.com", None, Basis.RECORDED),
        FieldChange(
            "custom_attributes.tier", Op.SET, "gold", f"tier-{number % 7}", Basis.OBSERVED, 8
        ),
    )
    body = {
        "first_name": f"Janet {number}",
        "email": None,
        "custom_attributes": [{"key": "tier", "value": f"tier-{number % 7}"}],
    }
    request = Request("PATCH", "/x", {"adapty-customer-user-id": address}, body)
    labels = ("qa", f"team-{number % 5}")
    return Change(
        address, Action.UPDATE, "2 to set, 1 to clear", fields, (request,), (), source, 1, labels
    )


def main(changes: int) -> None:
    made = tuple(change(number) for number in range(changes))
    plan = assemble_plan(Head("bench", Mode.PRUNE, "lineage", 1, None), changes=made)

    def view() -> PlanView:
        return PlanView.of(replace(plan))  # a copy that has counted nothing yet

    def masked() -> object:
        return Mask(load_contract("guide")).plan(replace(plan))

    tasks: list[tuple[str, Callable[[], object]]] = [
        ("written down (floor)", lambda: sum(map(len, to_lines(plan)))),
        ("text", lambda: sum(map(len, plan_text_parts(view(), Pen(False))))),
        ("json", lambda: sum(map(len, plan_json_parts(view())))),
        ("markdown", lambda: plan_markdown(view())),
        ("github", lambda: plan_annotations(view())),
        ("html", lambda: plan_html(view())),
        ("masked", masked),
    ]
    rows = [(label, best(task)) for label, task in tasks]
    print(f"{changes} changes")
    for label, seconds in rows:
        print(f"{label:<30} {seconds:7.3f} s {seconds / rows[0][1]:6.1f} x floor")
    if PROGRAM is None:
        print("no Chromium here: the report is not measured in a browser")
        return
    with tempfile.TemporaryDirectory() as name, Browser() as browser:
        page = Path(name) / "plan.html"
        page.write_text(plan_html(view()), "utf-8")
        print(f"{'html, opened in Chromium':<30} {best(lambda: browser.open(page)):7.3f} s")
        taken = browser.run(SEARCH)
        print(f"{'html, the slowest keystroke':<30} {max(taken) / 1000:7.3f} s")


SEARCH = """['j', 'ja', 'jan', 'jane', 'tier-3', 'nothing', ''].map((text) => {
  const start = performance.now();
  q.value = text;
  q.dispatchEvent(new Event('input', {bubbles: true}));
  document.body.offsetHeight;
  return performance.now() - start;
})"""


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
