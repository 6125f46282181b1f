"""The documentation as a site: ``make site``.

The sources are the Markdown files where they lie, so that a link works on a code host and on the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent

project = "reconcile"
author = "The reconcile authors"
project_copyright = "The reconcile authors"
_source = (ROOT / "reconciler" / "__init__.py").read_text("utf-8")
_version = re.search(r'^__version__ = "(.+)"$', _source, re.MULTILINE)
release = version = _version[1] if _version else ""

extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "benchmarks/*.md"]
exclude_patterns = [".*", "build", "tests", "reconciler"]

myst_heading_anchors = 4
myst_enable_extensions = ["strikethrough"]
myst_links_external_new_tab = False
nitpicky = True
smartquotes = False  # `--option` is not a dash

html_theme = "furo"
html_title = f"reconcile {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "redirect.html"}
templates_path = ["templates"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#0b6e4f", "color-brand-content": "#0b6e4f"},
    "dark_css_variables": {"color-brand-primary": "#5fd0a5", "color-brand-content": "#5fd0a5"},
}
highlight_language = "none"


DECISIONS = """

```{toctree}
:hidden:
:glob:

0*
```
"""


def setup(app: Any) -> None:
    app.connect("source-read", add_decisions)


def add_decisions(app: Any, page: str, source: list[str]) -> None:
    """Puts the decisions below their index: in the file itself, a code host would show these lines."""
    if page == "docs/decisions/README":
        source[0] += DECISIONS
