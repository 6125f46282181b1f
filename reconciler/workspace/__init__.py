"""The façade that library users and the command line use.

A module imports only from those above it.

    facade (edge)  a configuration, its profile files, one environment's state and API
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.exports import exported

if TYPE_CHECKING:
    from reconciler.workspace.facade import Checked, Formatted, Workspace

__all__ = [
    "Checked",
    "Formatted",
    "Workspace",
]

__getattr__ = exported(
    __name__,
    {
        "reconciler.workspace.facade": "Checked Formatted Workspace",
    },
)
