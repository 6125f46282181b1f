"""Documents as they are written → documents as they are meant: defaults, templates, placeholders. Pure.

A ``_defaults.yaml`` lies under all profiles of its folder and the folders below. A document with
``for_each`` is a template of several profiles. Placeholders in text stand for what differs: ``{index}``,
``{item}``, ``{run}``, ``{worker}``, ``{fake.…}``, ``${var.…}``, ``${env.…}``. There are no expressions,
and what a placeholder brought in is not looked into again. Every value keeps the place where it was
written, in whatever file that is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from reconciler.authoring.documents import Document, Path
from reconciler.authoring.phrases import did_you_mean
from reconciler.core.contract import ATTRIBUTES
from reconciler.errors import Diagnostic, error
from reconciler.values import Json, Scalar, digest

FOR_EACH = "for_each"
MOST_PROFILES = 100_000
"""Profiles of one template, and of all templates of a file together."""
_FINDINGS = 3
"""Profiles of a template of which findings are told; they mostly say the same."""

needs_expansion = re.compile(
    rb"for_each|\$\{|\{(?:index|item|run|worker|fake)[}.:]", re.ASCII
).search
"""Whether a file may hold a template or a placeholder. Most hold neither."""

_PLACEHOLDER = re.compile(
    r"""
      (?P<dollars>\${1,2}) \{ (?P<variable> [^{}]* ) \}
    | \{\{ (?P<escaped> [a-z_]+ (?: [.:] [A-Za-z0-9_.-]+ )? ) \}\}
    | \{ (?P<name> [A-Za-z_]+ (?: [.:] [A-Za-z0-9_.-]+ )? ) \}
    """,
    re.VERBOSE,
)
_PADDED = re.compile(r"0[1-9]").fullmatch
_NAMES = ("index", "item", "run", "worker", "fake")

Fake: TypeAlias = Callable[[str, str], "str | None"]
"""Makes up what a name stands for, the same for the same seed; ``None`` for an unknown name."""


def _nothing() -> None:
    return None


class PlaceholderValues(NamedTuple):
    """What placeholders stand for, besides what their document says."""

    variables: Mapping[str, Scalar] = {}
    """``${var.NAME}``: of the configuration."""
    environ: Mapping[str, str] = {}
    """``${env.NAME}``: only those that begin with the prefix."""
    prefix: str | None = None
    """What variables of the environment must begin with to be used; without it none are."""
    run: str | None = None
    worker: str = "main"
    seed: str = ""
    fakes: Callable[[], str | None] = _nothing
    """Names what makes data up, with its version; ``None`` where it is not installed."""

    def digest_of(self, name: str) -> str:
        """What a source (``var.tier``, ``run``) is now; ``""`` where it is not defined."""
        kind, _, rest = name.partition(".")
        value: Scalar | None = {
            "var": self.variables.get(rest),
            "env": self.environ.get(rest),
            "run": self.run,
            "worker": self.worker,
        }.get(kind)
        if kind == "fake" and (fakes := self.fakes()) is not None:
            value = f"{fakes} {self.seed}"
        return "" if value is None else digest(value)


class Defaults(NamedTuple):
    """What lies under the profiles of a folder: its own defaults over those of the folders above."""

    document: Document
    digest: str
    has_placeholders: bool

    def over(self, below: Defaults | None) -> Defaults:
        """These over others."""
        if below is None:
            return self
        return Defaults(
            merged(self.document, below.document),
            digest(below.digest, self.digest),
            self.has_placeholders or below.has_placeholders,
        )


class Expanded(NamedTuple):
    """What a file means."""

    documents: list[Document]
    findings: list[Diagnostic]
    sources: dict[str, str]
    """Digests of what placeholders stood for, by name."""


# --- defaults ------------------------------------------------------------------------------------


def merged(document: Document, below: Document) -> Document:
    """A document over its defaults. Maps are joined; ``null`` over a default takes it away, so that it
    is as if neither had mentioned the field."""
    document, below = _in_one_form(document, below)
    inherited: list[Path] = []
    value = _merged(document.value, below.value, (), inherited)
    roots = frozenset(inherited)
    places, files = document.placed(), dict(document.files)
    for path, place in below.placed().items():
        if any(path[:length] in roots for length in range(1, len(path) + 1)):
            places[path] = place
            files[path] = below.files.get(path, below.source.file)
    return document._replace(value=value, places=places, files=files, shift=0)


def _merged(
    over: Mapping[str, Any], below: Mapping[str, Any], path: Path, inherited: list[Path]
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in over.items():
        if key not in below:
            out[key] = value
        elif isinstance(value, dict) and isinstance(below[key], dict):
            out[key] = _merged(value, below[key], (*path, key), inherited)
        elif value is not None:
            out[key] = value
    for key, value in below.items():
        if key not in over:
            out[key] = value
            inherited.append((*path, key))
    return out


def _in_one_form(document: Document, below: Document) -> tuple[Document, Document]:
    """Both with custom attributes as a map, if both have any: lists cannot be joined by key."""
    kinds = {type(each.value.get(ATTRIBUTES)) for each in (document, below)}
    if kinds in ({list}, {list, dict}):
        return _as_map(document), _as_map(below)
    return document, below


def _as_map(document: Document) -> Document:
    items: Any = document.value.get(ATTRIBUTES)
    if not isinstance(items, list):
        return document
    found: dict[str, Any] = {}
    places, files = document.placed(), dict(document.files)
    for index, item in enumerate(items):
        if not isinstance(item, dict) or {*item} != {"key", "value"}:
            return document  # what is wrong with it is said later
        key = item["key"]
        if not isinstance(key, str) or key in found:
            return document
        found[key] = item["value"]
        here, there = (ATTRIBUTES, key), (ATTRIBUTES, index, "value")
        if there in places:
            places[here] = places[there]
            if there in files:
                files[here] = files[there]
    return document._replace(
        value={**document.value, ATTRIBUTES: found},
        places=places,
        files=files,
        shift=0,
    )


# --- templates -----------------------------------------------------------------------------------


def expand(
    documents: Sequence[Document],
    defaults: Defaults | None,
    given: PlaceholderValues,
    fake: Fake,
    *,
    fill: bool = True,
) -> Expanded:
    """What the documents of a file mean, given the defaults of its folder; without ``fill``, nothing is
    there to be filled in.

    Of a document with findings here nothing is returned: it cannot be planned from.
    """
    out = Expanded([], [], {})
    for document in documents:
        if defaults is not None:
            document = merged(document, defaults.document)
        if not fill:
            out.documents.append(document)
        elif FOR_EACH in document.value:
            _expand_template(document, given, fake, out)
        else:
            filling = _Filling(document, given, fake, out)
            made = filling.document()
            if not filling.findings:
                out.documents.append(made)
            out.findings.extend(filling.findings)
    return out


def _expand_template(
    document: Document, given: PlaceholderValues, fake: Fake, out: Expanded
) -> None:
    items = document.value[FOR_EACH]
    problem = _problem_of(items)
    if problem is None and len(out.documents) + _count(items) > MOST_PROFILES:
        problem = (
            f"the templates of this file make more than {MOST_PROFILES:,} profiles",
            "Split the file.",
        )
    if problem is not None:
        out.findings.append(
            error("template/for-each", problem[0], document.at((FOR_EACH,)), hint=problem[1])
        )
        return
    value = {name: content for name, content in document.value.items() if name != FOR_EACH}
    name = value.get("customer_user_id")
    plain = document._replace(value=value, template=name if isinstance(name, str) else "")
    made: list[Document] = []
    failed = 0
    for index, item in enumerate(_items(items), start=1):
        filling = _Filling(plain, given, fake, out, index=index, item=item)
        made.append(filling.document())
        if filling.findings:
            failed += 1
            out.findings.extend(filling.findings)
            if failed == _FINDINGS:
                break
    names = {str(each.value.get("customer_user_id")) for each in made}
    if not failed and len(names) < len(made) and isinstance(name, str):
        out.findings.append(
            error(
                "template/not-unique",
                f"this template makes {len(made)} profiles with {len(names)} different names",
                document.at(("customer_user_id",)),
                hint="Put {index} into customer_user_id, or something of {item} that differs.",
            )
        )
    elif not failed:
        out.documents.extend(made)


def _problem_of(items: Any) -> tuple[str, str] | None:
    hint = "Write a count such as 50, or a list of values or maps."
    if isinstance(items, bool) or not isinstance(items, (int, list)):
        return "`for_each` is neither a count nor a list", hint
    if isinstance(items, int):
        if items < 1:
            return f"`for_each` is {items}; a template makes at least one profile", hint
    elif not items:
        return "`for_each` is an empty list; a template makes at least one profile", hint
    elif any(isinstance(item, list) or item is None for item in items):
        return "`for_each` lists something that is neither a value nor a map", hint
    elif any(isinstance(each, (dict, list)) for each in _members_of(items)):
        return "`for_each` lists a map whose members are not plain values", hint
    if _count(items) > MOST_PROFILES:
        return f"`for_each` makes more than {MOST_PROFILES:,} profiles", "Split the template."
    return None


def _members_of(items: Sequence[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, dict):
            yield from item.values()


def _count(items: Any) -> int:
    return items if isinstance(items, int) else len(items)


def _items(items: Any) -> Sequence[Any]:
    return range(1, items + 1) if isinstance(items, int) else items


# --- placeholders --------------------------------------------------------------------------------


class _Filling:
    """The filling of one document's placeholders."""

    def __init__(
        self,
        document: Document,
        given: PlaceholderValues,
        fake: Fake,
        out: Expanded,
        *,
        index: int | None = None,
        item: Any = None,
    ) -> None:
        self.findings: list[Diagnostic] = []
        self._document = document
        self._given = given
        self._fake = fake
        self._out = out
        self._index = index
        self._item = item
        self._who: str | None = None

    def document(self) -> Document:
        """The document with everything filled in."""
        value = {
            name: self._filled(content, (name,)) for name, content in self._document.value.items()
        }
        return self._document._replace(value=value)

    def _filled(self, value: Json, path: Path) -> Any:
        if isinstance(value, str):
            return self._text(value, path) if "{" in value else value
        if isinstance(value, dict):
            return {key: self._filled(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _text(self, text: str, path: Path) -> Scalar:
        """A text with its placeholders filled in. One that is nothing but a placeholder for a member of
        the list or a variable takes over its type as well."""
        only = _PLACEHOLDER.fullmatch(text)
        if only is not None:
            return self._meant(only, path)
        return _PLACEHOLDER.sub(lambda match: _written(self._meant(match, path)), text)

    def _meant(self, match: re.Match[str], path: Path) -> Scalar:
        if match["variable"] is not None:
            if match["dollars"] == "$$":
                return match.group()[1:]
            return self._variable(match["variable"], path)
        if match["escaped"] is not None:
            return match.group()[1:-1] if _is_known(match["escaped"]) else match.group()
        name: str = match["name"]
        if not _is_known(name):
            if self._index is not None:
                self._unknown(name, path)
            return match.group()
        kind, _, rest = name.partition("." if "." in name else ":")
        match kind:
            case "index":
                return self._number(rest, path)
            case "item":
                return self._member(rest, path)
            case "fake":
                return self._made_up(rest, path)
            case "run":
                return self._named_run(path)
            case _:
                self._use("worker")
                return self._given.worker

    def _number(self, padding: str, path: Path) -> Scalar:
        if self._index is None:
            return self._outside("index", path)
        if padding and not _PADDED(padding):
            self._problem(
                f"{{index:{padding}}} is not a placeholder", path, "Pad with zeros: {index:03}."
            )
            return ""
        return f"{self._index:{padding}}"

    def _member(self, name: str, path: Path) -> Scalar:
        item = self._item
        if self._index is None:
            return self._outside("item", path)
        if not isinstance(item, dict) and not name:
            return item  # type: ignore[no-any-return]
        if isinstance(item, dict) and name in item and item[name] is not None:
            return item[name]  # type: ignore[no-any-return]
        if not isinstance(item, dict):
            message, hint = "an item of this template is no map", "Write {item} alone."
        elif not name:
            message, hint = "an item of this template is a map", "Name a member: {item.NAME}."
        else:
            meant = did_you_mean(name, item)
            message = f"item {self._index} of this template has no `{name}`"
            hint = f"Did you mean {{item.{meant}}}?" if meant else "Add it to every item."
        self._problem(message, path, hint)
        return ""

    def _outside(self, name: str, path: Path) -> str:
        self._problem(
            f"{{{name}}} means something only in a template",
            path,
            f"Add `for_each:` with a count or a list; {{{{{name}}}}} stands for these very characters.",
        )
        return ""

    def _named_run(self, path: Path) -> Scalar:
        self._use("run")
        run = self._given.run
        if run is None:
            self._problem(
                "{run} is not defined: this run has no name",
                path,
                "Give one: --run NAME, or the variable RECONCILE_RUN. In GitHub and GitLab builds it "
                "is known.",
            )
        return run or ""

    def _made_up(self, name: str, path: Path) -> Scalar:
        self._use("fake")
        if path == ("customer_user_id",):
            self._problem(
                "a name cannot be made up: data is made up for a name",
                path,
                "Use {index}, {item} or {run}.",
            )
            return ""
        if self._given.fakes() is None:
            self._problem(
                "{fake.…} needs Faker, which is not installed",
                path,
                "Install it: pip install 'reconciler[fake]'.",
            )
            return ""
        made = self._fake(name, f"{self._given.seed}\n{self._identity()}")
        if made is None:
            self._problem(
                f"{{fake.{name}}} is not known",
                path,
                "docs/testing.md lists what can be made up; only what cannot be anybody's is.",
            )
        return made or ""

    def _identity(self) -> str:
        """Names the profile, the same in every run."""
        if self._who is None:
            value = self._document.value
            name = value.get("customer_user_id") or value.get("profile_id")
            given = self._given._replace(run="{run}", worker="{worker}")
            quiet = Expanded([], [], {})
            named = self._document._replace(value={"customer_user_id": name})
            filling = _Filling(named, given, self._fake, quiet, index=self._index, item=self._item)
            self._who = str(filling.document().value["customer_user_id"])
        return self._who

    def _variable(self, name: str, path: Path) -> Scalar:
        given = self._given
        kind, _, rest = name.partition(".")
        known: Mapping[str, Scalar] = given.variables if kind == "var" else given.environ
        if kind not in ("var", "env") or not rest:
            self._problem(
                f"${{{name}}} is not a variable",
                path,
                "Write ${var.NAME} or ${env.NAME}; $${ stands for ${.",
            )
            return ""
        if kind == "env" and not (given.prefix and rest.startswith(given.prefix)):
            why = f"it does not begin with {given.prefix}" if given.prefix else "none may"
            self._problem(
                f"${{env.{rest}}} may not be used: {why}",
                path,
                "Set `env_prefix` in reconcile.yaml to what such variables begin with.",
            )
            return ""
        self._use(name)
        if rest not in known:
            meant = did_you_mean(rest, known)
            where = "reconcile.yaml, under `variables`" if kind == "var" else "the environment"
            self._problem(
                f"${{{name}}} is not defined",
                path,
                f"Did you mean ${{{kind}.{meant}}}?" if meant else f"Define it in {where}.",
            )
            return ""
        return known[rest]

    def _unknown(self, name: str, path: Path) -> None:
        meant = did_you_mean(name, _NAMES)
        self._problem(
            f"{{{name}}} is not a placeholder",
            path,
            f"Did you mean {{{meant}}}?"
            if meant
            else f"Known are {', '.join(f'{{{each}}}' for each in _NAMES)}.",
        )

    def _use(self, name: str) -> None:
        self._out.sources[name] = self._given.digest_of(name)

    def _problem(self, message: str, path: Path, hint: str) -> None:
        self.findings.append(
            error("template/placeholder", message, self._document.at(path), hint=hint)
        )


def _is_known(name: str) -> bool:
    kind, *rest = re.split("[.:]", name, maxsplit=1)
    return kind in _NAMES and not (rest and kind in ("run", "worker"))


def _written(value: Scalar) -> str:
    """A value within a text, as JSON would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def deduplicate(findings: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Findings without those that say the same of the same place: the profiles of a template share
    their places, and all profiles of a folder share its defaults."""
    return list({(each.source, each.rule): each for each in reversed(findings)}.values())[::-1]


# --- written out ---------------------------------------------------------------------------------

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*").fullmatch


def written_out(document: Document, shown: Callable[[Path, Json], Json] = lambda _, x: x) -> str:
    """A document as a profile file has it, ended by a newline. A comment says of what is not written in
    its file where it is. The same document always gives the same bytes.

    ``shown`` may put something in the place of a value.
    """
    name = f"  {document.template}" if document.template else ""
    lines = [f"# {document.source.file}:{document.source.line}{name}"]
    lines += _lines(document, document.value, (), shown)
    return "\n".join(lines) + "\n"


def _lines(
    document: Document,
    node: Mapping[str, Any],
    path: Path,
    shown: Callable[[Path, Json], Json],
) -> Iterator[str]:
    indent = "  " * len(path)
    for key, value in node.items():
        here = (*path, key)
        place = document.at(here)
        note = f"  # {place.file}:{place.line}" if here in document.files else ""
        if isinstance(value, dict) and value:
            yield f"{indent}{_spelled(key)}:{note}"
            yield from _lines(document, value, here, shown)
        else:
            yield f"{indent}{_spelled(key)}: {_value(shown(here, value))}{note}"


def _value(value: Any) -> str:
    """A value on one line, in YAML's flow style."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_spelled(key)}: {_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return _scalar(value)


def escaped(text: str) -> str:
    """What stands for a text where placeholders are filled in."""
    return _PLACEHOLDER.sub(_escaped, text) if "{" in text else text


def _escaped(match: re.Match[str]) -> str:
    """What stands for a text that would otherwise be a placeholder."""
    if match["variable"] is not None:
        return f"${match.group()}"
    name = match["name"] or match["escaped"]
    return f"{{{match.group()}}}" if _is_known(name) else match.group()


def _scalar(value: Any) -> str:
    return _spelled(escaped(value) if isinstance(value, str) else value)


def _spelled(value: Any) -> str:
    """A scalar, or a key: in keys nothing is filled in."""
    # Here, since hardly anything that expands a document also writes one out.
    from reconciler.authoring.yaml_fast import WORDS, is_ambiguous

    if isinstance(value, str) and _PLAIN(value) and not (value in WORDS or is_ambiguous(value)):
        return value
    return json.dumps(value, ensure_ascii=False)
