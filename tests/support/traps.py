"""A checkout full of traps: files that a careless program would execute, import or take for its settings.

`plant` writes them, `sprung` tells which ones went off. A trap that goes off adds its name to a file outside
of the checkout, the *canary*. To add a kind of trap, write a function like those below and list it in
`KINDS`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

MODULES = (
    *(
        "abc",
        "ast",
        "codecs",
        "collections",
        "contextlib",
        "encodings",
        "enum",
        "functools",
        "hashlib",
    ),
    *(
        "http",
        "importlib",
        "io",
        "json",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "re",
        "runpy",
    ),
    *(
        "site",
        "sitecustomize",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "tempfile",
        "types",
        "typing",
    ),
    *("urllib", "usercustomize", "venv", "zipfile"),
    *("click", "ensurepip", "hatchling", "jsonschema", "orjson", "packaging", "pip", "pluggy"),
    *("reconciler", "requests", "rich", "setuptools", "urllib3", "yaml"),
)
"""Names of modules. Each is planted as a package and as a module."""
PROGRAMS = (
    *(
        "bash",
        "cat",
        "chmod",
        "dirname",
        "env",
        "git",
        "less",
        "mkdir",
        "mktemp",
        "od",
        "pip",
        "pip3",
    ),
    *("python", "python3", "reconcile", "sed", "sh", "ssh", "tail", "tee", "tr"),
)
STARTUP_FILES = (
    *(".bash_login", ".bash_profile", ".bashrc", ".env", ".envrc", ".profile", ".zshenv"),
    *("BASH_ENV", "ENV"),
)
GIT_PROGRAMS = (
    *("alias", "clean", "command", "credential", "external", "fsmonitor", "gpg", "pager", "smudge"),
    *("ssh-command", "textconv"),
)
"""Programs that the configuration of the work tree names."""
HOOKS = ("post-checkout", "post-index-change", "pre-commit", "reference-transaction")


class TrapFile(NamedTuple):
    """A file to plant. ``name`` is its path in the checkout and the name of the trap."""

    name: str
    text: str
    mode: int = 0o644


def plant(folder: Path, canary: Path) -> list[str]:
    """Writes traps of all kinds below a folder, beside what is there. Returns their names, sorted."""
    files = [file for kind in KINDS for file in kind(folder, canary)]
    for file in files:
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, "utf-8")
        path.chmod(file.mode)
    return sorted(file.name for file in files)


def sprung(canary: Path) -> list[str]:
    """The names of the traps that went off."""
    return canary.read_text("utf-8").splitlines() if canary.exists() else []


def misleading_variables(folder: Path) -> dict[str, str]:
    """Variables that lead a careless program from its start into a checkout."""
    return {
        "BASH_ENV": str(folder / ".bashrc"),
        "CDPATH": str(folder),
        "ENV": str(folder / ".env"),
        "PIP_CONFIG_FILE": str(folder / "pip.conf"),
        "PIP_PYTHON": str(folder / "bin" / "python3"),
        "PIP_REQUIREMENT": str(folder / "requirements.txt"),
        "PIP_TARGET": str(folder / "bin"),
        "PYTHONBREAKPOINT": "reconciler.trap",
        "PYTHONHOME": str(folder),
        "PYTHONINSPECT": "1",
        "PYTHONPATH": f"{folder}{os.pathsep}.{os.pathsep}",
        "PYTHONPLATLIBDIR": str(folder),
        "PYTHONSTARTUP": str(folder / "json.py"),
        "PYTHONUSERBASE": str(folder),
        "VIRTUAL_ENV": str(folder),
        "XDG_CONFIG_HOME": str(folder / ".config"),
    }


def misleading_path(folder: Path, path: str) -> str:
    """A search path that leads into a checkout: before the folders of ``path`` by relative names and by
    ``tools``, in which there is no shell, and behind them with everything."""
    before = [".", "bin", "", str(folder / "tools")]
    return os.pathsep.join([*before, path, str(folder), str(folder / "bin"), ""])


def _python(canary: Path, name: str) -> str:
    return f"with open({str(canary)!r}, 'a') as _canary:\n    _canary.write({name + chr(10)!r})\n"


def _shell(canary: Path, name: str) -> str:
    return f"printf '%s\\n' {shlex.quote(name)} >> {shlex.quote(str(canary))}\n"


def _modules(folder: Path, canary: Path) -> Iterator[TrapFile]:
    names = [name for module in MODULES for name in (f"{module}.py", f"{module}/__init__.py")]
    for name in [*names, "pip/__main__.py", "reconciler/__main__.py", "venv/__main__.py"]:
        yield TrapFile(name, _python(canary, name))
    for name in ("conftest.py", "setup.py", "hatch_build.py"):
        yield TrapFile(name, _python(canary, name))
    yield TrapFile("pyvenv.cfg", "home = .\ninclude-system-site-packages = true\n")
    for version in ("3.11", "3.12", "3.13", "3.14"):
        name = f"lib/python{version}/site-packages/trap.pth"
        line = f"import os; open({str(canary)!r}, 'a').write({name + chr(10)!r})\n"
        yield TrapFile(name, line)


def _programs(folder: Path, canary: Path) -> Iterator[TrapFile]:
    names = [name for program in PROGRAMS for name in (f"bin/{program}", f".venv/bin/{program}")]
    names += [f"tools/{program}" for program in PROGRAMS if program not in ("bash", "sh")]
    # At the top of the checkout some of these names are folders of the modules.
    names += [program for program in PROGRAMS if program not in (*MODULES, "bin")]
    for name in names:
        yield TrapFile(name, f"#!/bin/sh\n{_shell(canary, name)}", 0o755)


def _startup_files(folder: Path, canary: Path) -> Iterator[TrapFile]:
    for name in STARTUP_FILES:
        yield TrapFile(name, _shell(canary, name))


def _settings_of_pip(folder: Path, canary: Path) -> Iterator[TrapFile]:
    """Settings that have pip run another interpreter, or build a package of the checkout."""
    settings = f"[global]\npython = {folder}/bin/python3\nfind-links = {folder}\nno-index = true\n"
    for name in ("pip.conf", "pip/pip.conf", ".pip/pip.conf", ".config/pip/pip.conf"):
        yield TrapFile(name, settings)
    yield TrapFile("setup.cfg", "[metadata]\nname = trap\n[options]\npy_modules = trap\n")
    yield TrapFile(
        "pyproject.toml",
        '[build-system]\nrequires = []\nbuild-backend = "setup"\nbackend-path = ["."]\n',
    )
    for name in ("requirements.txt", "constraints.txt", "requirements-ci.txt"):
        yield TrapFile(name, f"--index-url file://{folder}\n-e {folder}\n")
    yield TrapFile(".python-version", f"../../../../../../../..{folder}\n")


def _settings_of_git(folder: Path, canary: Path) -> Iterator[TrapFile]:
    """Commands that git runs for a work tree, if there is one."""
    config = folder / ".git" / "config"
    if not config.is_file():
        return

    for name in (*GIT_PROGRAMS, *(f"hooks/{hook}" for hook in HOOKS)):
        yield TrapFile(f".git/{name}", f"#!/bin/sh\n{_shell(canary, f'.git/{name}')}", 0o755)
    traps = {name: f"{folder}/.git/{name}" for name in GIT_PROGRAMS}
    settings = f"""
[alias]
	status = !{traps["alias"]}
[core]
	fsmonitor = {traps["fsmonitor"]}
	hooksPath = {folder}/.git/hooks
	pager = {traps["pager"]}
	sshCommand = {traps["ssh-command"]}
[credential]
	helper = {traps["credential"]}
[diff]
	external = {traps["external"]}
[diff "trap"]
	command = {traps["command"]}
	textconv = {traps["textconv"]}
[filter "trap"]
	clean = {traps["clean"]}
	smudge = {traps["smudge"]}
	required = true
[gpg]
	program = {traps["gpg"]}
[log]
	showSignature = true
"""
    yield TrapFile(".git/config", config.read_text("utf-8") + settings)
    yield TrapFile(".gitattributes", "* diff=trap filter=trap\n")


KINDS: tuple[Callable[[Path, Path], Iterator[TrapFile]], ...] = (
    _modules,
    _programs,
    _startup_files,
    _settings_of_pip,
    _settings_of_git,
)
"""All kinds of traps. Each function gives the files of one kind, for a checkout and a canary."""
