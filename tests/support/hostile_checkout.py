"""The checkout of a pull request that tries everything, and what lies around it.

`tests.support.traps` plants files that a careless program executes. This module adds what a careless program
reads, writes, deletes or follows: links, pipes, devices, forged states and caches, and settings that lead
elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from tests.support.git import Git
from tests.support.traps import plant

SECRETS = {
    "ADAPTY_SECRET_KEY": "secret_live_canary01.0123456789abcdef0123456789abcdef",
    "GITHUB_TOKEN": "ghs_canary02canary02canary02canary02",
    "AWS_SECRET_ACCESS_KEY": "canary03/canary03+canary03canary03canary",
    "QA_PASSWORD": "canary04canary04",
    "DATABASE_URL": "postgres://canary05:canary05@db.example/x",
}
"""Variables of the runner that no output, no file and no request may hold."""

CONFIG = """\
version: 1
default_environment: local
variables: {tier: gold}
environments:
  local:
    api: {url: emulator}
    limits: {max_delete: "100%", max_changes: 1000000}
"""
JANE = "customer_user_id: qa-jane\nfirst_name: Jane\nip_country: FR\n"


Kind: TypeAlias = "Callable[[Checkout], Iterator[str]]"


def _own_address() -> str:
    """An address of this machine that is no loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


class Listener:
    """A server that only counts who comes. Its host is none that keys may go to by themselves."""

    def __init__(self) -> None:
        self._server = socket.create_server((_own_address(), 0))
        self.address: str = "{}:{}".format(*self._server.getsockname())
        self.connections: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(1)
                try:
                    self.connections.append(connection.recv(4096))
                except OSError:
                    self.connections.append(b"")

    def close(self) -> None:
        self._server.close()


class Checkout:
    """A checkout in a folder of its own, with victims beside it.

    ``folder`` is the checkout, ``outside`` what it wants to reach, ``home`` the home of the person who runs
    the program, ``canary`` the file that traps write.
    """

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        """``folder`` is the checkout, if there is one already."""
        self.root = root
        self.folder = folder or root / "work" / "checkout"
        self.outside = root / "outside"
        self.home = root / "home"
        self.canary = root / "canary"
        self.listener = Listener()
        for folder in (self.folder, self.outside, self.home):
            folder.mkdir(parents=True, exist_ok=True)
        (self.outside / "library.index").write_text("years of work")
        (self.outside / "library.index-journal").write_text("more")
        (self.outside / "secret.yaml").write_text(f"first_name: {SECRETS['QA_PASSWORD']}\n")
        (self.outside / "notes.txt").write_text("keep me\n")
        (self.home / ".netrc").write_text("machine api.adapty.io login canary04canary04\n")
        self.git = Git(self.folder)

    def write(self, name: str, text: str | bytes, mode: int = 0o644) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return path

    def configure(self, text: str) -> None:
        """Adds lines to the configuration, which ends with its environments."""
        path = self.folder / "reconcile.yaml"
        path.write_text(path.read_text() + text)

    def plant(self, *kinds: Kind) -> list[str]:
        """Plants traps of all kinds in spite of which commands go on, and of further ``kinds``. Returns the
        names of all traps."""
        self.write("reconcile.yaml", CONFIG)
        self.write("profiles/jane.yaml", JANE)
        self.write("profiles/team/bob.yaml", JANE.replace("jane", "bob"))
        self.git.commit("First")
        self.write("profiles/jane.yaml", JANE.replace("Jane", "Janet"))
        if _links not in kinds:
            (self.folder / "out").mkdir()
        names = []
        for kind in (*KINDS, *kinds):
            names += kind(self)
        self.git.commit("Traps")
        return [*names, *plant(self.folder, self.canary)]

    def environment(self) -> dict[str, str]:
        """The variables of the person who runs the program."""
        return {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / ".local" / "state"),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "LC_ALL": "C.UTF-8",
            **SECRETS,
        }

    def digests(self) -> Mapping[str, str]:
        """The content, mode and kind of everything but the canary and what the program may write: its own
        folders in the checkout and in the home."""
        digests = dict(_digests(self.root, skipped=self._is_ours))
        if not self.folder.is_relative_to(self.root):
            digests |= _digests(self.folder, skipped=self._is_ours)
        return digests

    def _is_ours(self, path: Path) -> bool:
        homes = (self.home / each / "reconcile" for each in (".local/state", ".cache", ".config"))
        return path in (self.folder / ".reconcile", self.folder / "out", self.canary, *homes)


def _digests(folder: Path, *, skipped: Callable[[Path], bool]) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        if skipped(path):
            continue
        status = path.lstat()
        content = ""
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode) and status.st_size < 1 << 24:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISDIR(status.st_mode):
            yield from _digests(path, skipped=skipped)
            if path.name in ("state", ".local", ".cache", ".config"):
                continue  # parents of our own folders, which the program may make
        yield str(path), f"{status.st_mode:o} {status.st_size if content else 0} {content}"


# --- kinds in spite of which the program goes on -------------------------------------------------


def _bare_repositories(checkout: Checkout) -> Iterator[str]:
    """Repositories that are ordinary files, at every level, whose configuration runs commands."""
    trap = checkout.write(
        "trap.sh", f"#!/bin/sh\necho \"$0 $*\" >> '{checkout.canary}'\ncat\n", 0o755
    )
    config = (
        "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = .\n"
        f"\tfsmonitor = {trap}\n\tpager = {trap}\n\tsshCommand = {trap}\n\thooksPath = hooks\n"
        f'[diff "trap"]\n\ttextconv = {trap}\n\tcommand = {trap}\n'
        f'[filter "trap"]\n\tclean = {trap}\n\tsmudge = {trap}\n\tprocess = {trap}\n'
    )
    for level in ("", "profiles/", "profiles/team/", "apps/qa/"):
        checkout.write(f"{level}HEAD", "ref: refs/heads/main\n")
        checkout.write(f"{level}config", config)
        checkout.write(f"{level}objects/.keep", "")
        checkout.write(f"{level}refs/heads/.keep", "")
        checkout.write(f"{level}hooks/post-index-change", trap.read_text(), 0o755)
        yield f"bare repository at {level or './'}"


def _submodules(checkout: Checkout) -> Iterator[str]:
    trap = checkout.folder / "trap.sh"
    checkout.write(
        ".gitmodules",
        f'[submodule "x"]\n\tpath = lib\n\turl = ext::{trap}\n\tupdate = !{trap}\n'
        f'[submodule "../../outside"]\n\tpath = ../outside\n\turl = --upload-pack={trap}\n',
    )
    yield "submodule with a command for its address"
    yield "submodule with an option for its address"
    yield "submodule outside of the checkout"


def _git_extras(checkout: Checkout) -> Iterator[str]:
    """Files in .git that only somebody with the work tree can write, such as an action before us."""
    folder = checkout.folder / ".git"
    (folder / "info").mkdir(exist_ok=True)
    (folder / "info" / "attributes").write_text("* diff=trap filter=trap merge=trap\n")
    yield "attributes of the repository"
    (folder / "info" / "exclude").write_text("profiles/\n")
    yield "exclusions of the repository"
    (folder / "objects" / "info").mkdir(parents=True, exist_ok=True)
    (folder / "objects" / "info" / "alternates").write_text(f"{checkout.outside}\n")
    yield "objects of another repository"


def _settings_of_tools(checkout: Checkout) -> Iterator[str]:
    """Settings of programs that people run beside this one."""
    trap = checkout.folder / "trap.sh"
    files = {
        "pytest.ini": "[pytest]\naddopts = -p sitecustomize\n",
        "tox.ini": "[pytest]\naddopts = -p sitecustomize\n",
        ".pytest.ini": "[pytest]\naddopts = -p sitecustomize\n",
        ".pre-commit-config.yaml": "repos: [{repo: local, hooks: [{id: x, entry: ./trap.sh}]}]\n",
        ".gitconfig": f"[core]\n\tfsmonitor = {trap}\n",
        ".netrc": "machine api.adapty.io login x\n",
        ".ssh/config": f"Host *\n\tProxyCommand {trap}\n",
        ".config/git/config": f"[core]\n\tfsmonitor = {trap}\n",
        ".pypirc": "[distutils]\n",
        "Makefile": f"all:\n\t{trap}\n",
        ".reconcile.yaml": "version: 99\n",
        "reconcile.yml": "version: 99\n",
    }
    for name, text in files.items():
        checkout.write(name, text)
        yield name


def _our_own_resources(checkout: Checkout) -> Iterator[str]:
    """Files with the names of those that the package brings along."""
    for name in ("schemas/profile.schema.json", "schemas/contract.json", "templates/plan.html"):
        checkout.write(name, "{% raw %}not ours{% endraw %}")
        yield name
    checkout.write("version", "0.0.0\n")
    checkout.write("reconciler.egg-info/entry_points.txt", "[console_scripts]\nx = json:x\n")
    yield "entry points"


def _names(checkout: Checkout) -> Iterator[str]:
    """Names of files that a shell, an option parser or a log would obey."""
    ran = f"touch {checkout.canary}"
    for number, name in enumerate(
        (
            "-rf",
            "--prune",
            "$(id)",
            f"`{ran.replace('/', ' ')}`",
            "a;b",
            "a\n::error::b",
            "##[add-mask]c",
            "a\x1b[31m",
            "\u202egnp",
            "@octocat",
        )
    ):
        checkout.write(f"profiles/{name}.yaml", JANE.replace("qa-jane", f"qa-name-{number}"))
        yield f"file name {name!r}"
    path = os.fsencode(checkout.folder / "profiles") + b"/\xff\xfe.yaml"
    with open(path, "wb") as file:
        file.write(JANE.replace("qa-jane", "qa-bytes").encode())
    yield "file name that is no text"


def _values(checkout: Checkout) -> Iterator[str]:
    """Values that a log, a terminal or a page would obey."""
    for number, text in enumerate(
        (
            "::set-output name=x::y",
            "##[add-mask]x",
            "##vso[task.setvariable variable=x]y",
            "</script><script>alert(1)</script>",
            "$(touch ran)",
        )
    ):
        document = JANE.replace("Jane", f"'{text}'").replace("qa-jane", f"qa-value-{number}")
        checkout.write(f"profiles/value{number}.yaml", document)
        yield f"value {text!r}"


def _forged_caches(checkout: Checkout) -> Iterator[str]:
    """Files in the names of our own, as a branch can track them, with the mode of files that are ours."""
    evil = CONFIG.replace("emulator", "https://evil.example")
    for name in (
        "reconcile.yaml.cache",
        "local.db.index",
        "local.db.index-journal",
        "index",
        "x.lock",
    ):
        checkout.write(
            f".reconcile/{name}", f"{hashlib.sha256(evil.encode()).hexdigest()}\n{evil}", 0o600
        )
        yield f".reconcile/{name}"


def _planted_plan(checkout: Checkout) -> Iterator[str]:
    checkout.write("evil.plan", '{"format_version":1,"environment":"local","mode":"prune"}\n{}\n')
    yield "plan of somebody else"


def _hosts(checkout: Checkout) -> Iterator[str]:
    """Environments that send the key somewhere else."""
    proxy = f"http://{checkout.listener.address}"
    for name, api in {
        "proxy": f"url: https://api.adapty.io, key_env: ADAPTY_SECRET_KEY, proxy: '{proxy}'",
        "host": "url: https://evil.example, key_env: ADAPTY_SECRET_KEY",
        "metadata": "url: http://169.254.169.254, allow_http: true, key_env: ADAPTY_SECRET_KEY",
    }.items():
        checkout.configure(f"  {name}:\n    api: {{{api}}}\n")
        yield f"environment {name}"


def _states(checkout: Checkout) -> Iterator[str]:
    """Environments whose state is somewhere else, or that run a command of the checkout for it."""
    address = checkout.listener.address
    trap = checkout.write(
        "bin/secret.sh", f"#!/bin/sh\necho secret.sh >> {checkout.canary}\n", 0o755
    )
    for name, state in {
        "database": f"url: 'postgresql://me@{address}/ops?schema=reconcile'",
        "bucket": "url: s3://evil-bucket/state",
        "server": f"url: s3://bucket/state, region: x, endpoint: 'https://{address}'",
        "password": f"url: 'postgresql://me@localhost:1/ops?schema=x', password_command: [{trap}]",
        "key": f"url: s3://bucket/x, endpoint: 'https://localhost:1', encryption: {{key_command: [{trap}]}}",
        "roots": "url: 'postgresql://me@localhost:1/ops?schema=y&sslrootcert=ca.pem'",
    }.items():
        checkout.configure(f"  {name}:\n    api: {{url: emulator}}\n    state: {{{state}}}\n")
        yield f"environment {name}"


KINDS: tuple[Kind, ...] = (
    _states,
    _bare_repositories,
    _submodules,
    _git_extras,
    _settings_of_tools,
    _our_own_resources,
    _names,
    _values,
    _forged_caches,
    _planted_plan,
    _hosts,
)


# --- kinds that the program refuses --------------------------------------------------------------


def _links(checkout: Checkout) -> Iterator[str]:
    targets = {
        "outside": checkout.outside / "secret.yaml",
        "passwd": Path("/etc/passwd"),
        "environ": Path("/proc/self/environ"),
        "device": Path("/dev/zero"),
        "terminal": Path("/dev/tty"),
        "loop": Path("loop.yaml"),
        "dangling": Path("nowhere.yaml"),
        "git": Path("../.git/config"),
    }
    for name, target in targets.items():
        (checkout.folder / "profiles" / f"{name}.yaml").symlink_to(target)
        yield f"link to {target}"
    (checkout.folder / "profiles" / "linked").symlink_to(checkout.outside)
    yield "link to a folder outside"
    (checkout.folder / "out").symlink_to(checkout.outside)
    yield "link in the place of an output"


def _pipes_and_large_files(checkout: Checkout) -> Iterator[str]:
    os.mkfifo(checkout.folder / "profiles" / "pipe.yaml")
    yield "pipe"
    os.mkfifo(checkout.folder / "profiles" / "team" / "_defaults.yaml")
    yield "pipe for defaults"
    with open(checkout.folder / "profiles" / "huge.yaml", "wb") as file:
        file.truncate(1 << 40)
    yield "file of 1 TiB"


def _documents(checkout: Checkout) -> Iterator[str]:
    """Documents that other readers execute, or that grow."""
    ran = str(checkout.canary)
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
    )
    for name, text in {
        "object": f"customer_user_id: !!python/object/apply:os.system ['touch {ran}']\n",
        "name": "customer_user_id: !!python/name:os.system x\n",
        "bomb": bomb,
        "template": "for_each: 100000000\ncustomer_user_id: 'a{index}'\n",
        "deep": "customer_user_id: " + "[" * 5000 + "]" * 5000 + "\n",
        "empty": "",
    }.items():
        checkout.write(f"profiles/{name}.yaml", text)
        yield f"document {name}"


def _paths(checkout: Checkout) -> Iterator[str]:
    """Settings that keep the state outside, or read there."""
    outside = checkout.outside
    for name, more in {
        "victim": f"    state: {{url: 'sqlite:///{outside}/library'}}\n",
        "upwards": "    state: {url: 'sqlite:///../../outside/other'}\n",
        "bundle": f"    api: {{url: https://api.adapty.io, key_env: K, ca_bundle: '{outside}/notes.txt'}}\n",
        "token": "    api: {url: https://api.adapty.io, key_env: GITHUB_TOKEN}\n",
    }.items():
        api = "" if "api:" in more else "    api: {url: emulator}\n"
        checkout.configure(f"  {name}:\n{api}{more}")
        yield f"environment {name}"


def _secrets(checkout: Checkout) -> Iterator[str]:
    """Profiles that hold what the environment of the runner holds."""
    config = checkout.folder / "reconcile.yaml"
    config.write_text(config.read_text().replace("version: 1\n", "version: 1\nenv_prefix: AWS_\n"))
    for name in SECRETS:
        document = f"customer_user_id: qa-{name}\nfirst_name: ${{env.{name}}}\n"
        checkout.write(f"profiles/secret-{name}.yaml", document)
        yield f"variable {name}"


def _forged_state(checkout: Checkout) -> Iterator[str]:
    """A state with a journal that SQLite would roll back, and a state that is a link."""
    path = checkout.folder / ".reconcile" / "local.db"
    path.parent.mkdir(exist_ok=True)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE meta (lineage TEXT)")
    database.close()
    yield ".reconcile/local.db"
    for side in ("-journal", "-wal", "-shm"):
        path.with_name(f"local.db{side}").write_bytes(
            b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0" * 504
        )
        yield f".reconcile/local.db{side}"
    (checkout.folder / ".reconcile" / "victim.db").symlink_to(checkout.outside / "library.index")
    yield "state that is a link"
    shutil.copy(path, checkout.folder / ".reconcile" / "emulator.db")
    yield ".reconcile/emulator.db"


REFUSED_FILES: tuple[Kind, ...] = (_links, _pipes_and_large_files, _documents)
PATHS: tuple[Kind, ...] = (_paths,)
VARIABLES: tuple[Kind, ...] = (_secrets,)
FORGED_STATE: tuple[Kind, ...] = (_forged_state,)
