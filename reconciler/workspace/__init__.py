"""The façade that library users and the command line use, and the parts that it is made of.

A module imports only from those above it.

    results             the values that the façade returns
    expiry              warnings about lifetimes that end
    sources (edge)      the profile files: reads, validates, renders and formats them
    tracked (edge)      whether git tracks the files of a state
    shared_rate (edge)  a rate that all processes with one state share
    connection (edge)   the key, the client and the threads by which the API is called
    holder (edge)       who this process is, for the lock of a state
    sightings (edge)    what was last seen of each state, noted outside of the checkout
    state_file (edge)   a state in a SQLite file: where it may lie, and how it came there
    remote_state (edge)  a state on another machine: whether a checkout may lead there
    state_admin (edge)  the state: opens, locks, exports, replaces and restores it
    renaming (edge)     renames of records that files ask for, or a user
    migration (edge)    takes a state to another store, and back
    relocation (edge)   takes a state out of the checkout, back, or along with a folder that moved
    since (edge)        the profiles that changed since a revision of git
    part (edge)         the files that paths name
    narrowing (edge)    limits a plan to some paths, and to what changed since a revision
    refresh (edge)      reads recorded profiles back from the API
    uncommitted (edge)  files that a prune relies on and that git does not have committed
    new_files (edge)    profile files that are made, and never written over others
    importing (edge)    makes files and records of profiles that exist
    plan_reading (edge)  reads what a plan with --refresh needs
    plans (edge)        makes plans of files, of one profile, of removals and sweeps
    applies (edge)      applies a plan
    doctor (edge)       checks of key, address, clock, state, disk and versions
    facade (edge)       a configuration and one of its environments
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.exports import exported

if TYPE_CHECKING:
    from reconciler.workspace.facade import Workspace
    from reconciler.workspace.plans import PlanRequest
    from reconciler.workspace.results import Checked, Formatted

__all__ = [
    "Checked",
    "Formatted",
    "PlanRequest",
    "Workspace",
]

__getattr__ = exported(
    __name__,
    {
        "reconciler.workspace.facade": "Workspace",
        "reconciler.workspace.plans": "PlanRequest",
        "reconciler.workspace.results": "Checked Formatted",
    },
)
