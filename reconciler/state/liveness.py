"""Whether a process of this machine is alive, and whether it is still the same process.

A process number alone does not tell: systems give the numbers of dead processes to new ones.
"""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.systems import is_process_gone


def process_identity(pid: int) -> str | None:
    """A text that tells a process from every other one that had or gets its number: boot, process
    namespace, and start in clock ticks since boot (proc(5)).

    ``None`` if the process is dead (a zombie is), or if the system has no /proc.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
        # The command, in parentheses, may hold anything: fields count from after the last one.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else f"{boot} {namespace} {int(fields[19])}"
    except (OSError, ValueError, IndexError):
        return None


def is_dead(pid: int, identity: str | None) -> bool:
    """Whether a process of this machine is certainly gone.

    ``identity`` is its `process_identity`, or ``None`` where that was never known. In doubt the answer is
    no: a process of another boot or namespace cannot be judged from here.
    """
    if pid <= 0:
        return False
    if identity is not None:
        ours = process_identity(os.getpid())
        if ours is None or ours.split()[:2] != identity.split()[:2]:
            return False
        return process_identity(pid) != identity
    return is_process_gone(pid)
