"""Placeholders in text, and what they stand for. Pure.

``{index}``, ``{item}``, ``{run}``, ``{worker}``, ``{fake.…}``, ``${var.…}`` and ``${env.…}`` stand for
what differs between profiles or runs. There are no expressions, and a value that was filled in is not
searched for placeholders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from reconciler.authoring.documents import Document, Path
from reconciler.authoring.phrases import did_you_mean
from reconciler.authoring.variable_names import is_sensitive
from reconciler.errors import Diagnostic, Message, Quote, error
from reconciler.values import Json, Scalar, digest

needs_expansion = re.compile(
    rb"for_each|\$\{|\{(?:index|item|run|worker|fake)[}.:]", re.ASCII
).search
"""Finds a sign of a template or a placeholder in a file. Most files have neither."""

_PLACEHOLDER = re.compile(
    r"""
      (?P<dollars>\${1,2}) \{ (?P<variable> [^{}]* ) \}
    | \{\{ (?P<escaped> [a-z_]+ (?: [.:] [A-Za-z0-9_.-]+ )? ) \}\}
    | \{ (?P<name> [A-Za-z_]+ (?: [.:] [A-Za-z0-9_.-]+ )? ) \}
    """,
    re.VERBOSE,
)
MOST_CHARACTERS = 64 * 1024
"""Characters of a text whose placeholders are filled in."""
_MOST_SUGGESTIONS = 100
"""Findings of a document whose hints may name similar names."""
_PADDED = re.compile(r"0[1-9]").fullmatch
_PRINTED = frozenset({"customer_user_id", "profile_id", "platform", "meta"})
"""Members of a document that every output shows."""
_NAMES = ("index", "item", "run", "worker", "fake")

Fake: TypeAlias = Callable[[str, str], "str | None"]
"""Makes up the text for a name and a seed; ``None`` for an unknown name."""


def _nothing() -> None:
    return None


class ValueBudget:
    """How much the templates and defaults of a file may still make.

    A key, scalar or collection counts as one value, and a text as one more for each `CHARACTERS`.
    """

    CHARACTERS = 64

    def __init__(self, most: int) -> None:
        self._left = most

    @property
    def is_spent(self) -> bool:
        return self._left < 0

    def spend_text(self, characters: int) -> None:
        """Takes off what text counts that was filled in."""
        self._left -= characters // self.CHARACTERS

    def spend(self, value: Json, *, times: int = 1) -> None:
        """Takes off what a value counts, keys and members included."""
        todo: list[Json] = [value]
        count = 0
        while todo and count * times <= self._left:
            count += 1
            match todo.pop():
                case str() as text:
                    count += len(text) // self.CHARACTERS
                case dict() as mapping:
                    count += len(mapping)
                    todo.extend(mapping.values())
                case list() as items:
                    todo.extend(items)
                case _:
                    pass
        self._left -= count * times


class PlaceholderValues(NamedTuple):
    """The values that placeholders stand for, apart from those in their document."""

    variables: Mapping[str, Scalar] = {}
    """``${var.NAME}``: the variables of the configuration."""
    environ: Mapping[str, str] = {}
    """``${env.NAME}``: the environment, of which only names with the prefix may be used."""
    prefix: str | None = None
    """The beginning of the environment variables that may be used; ``None`` allows none."""
    refusal: str = ""
    """Why the others may not be used."""
    secrets: frozenset[str] = frozenset()
    """Variables that hold keys and addresses of proxies: they may never be used."""
    run: str | None = None
    worker: str = "main"
    seed: str = ""
    fakes: Callable[[], str | None] = _nothing
    """The library that makes data up, with its version; ``None`` if it is not installed."""

    def digest_of(self, name: str) -> str:
        """The digest of the value of a source (``var.tier``, ``run``), or, if it has none, of what the
        finding about it names; ``""`` if that is nothing."""
        kind, _, rest = name.partition(".")
        if kind == "env" and not self.may_use(rest):
            return digest("refused", self.why_not(rest))
        known: Mapping[str, Scalar] = {"var": self.variables, "env": self.environ}.get(kind, {})
        if known and rest not in known:
            return digest("undefined", *sorted(known))
        value: Scalar | None = {
            "var": self.variables.get(rest),
            "env": self.environ.get(rest),
            "run": self.run,
            "worker": self.worker,
        }.get(kind)
        if kind == "fake" and (fakes := self.fakes()) is not None:
            value = f"{fakes} {self.seed}"
        return "" if value is None else digest(value)

    def may_use(self, name: str) -> bool:
        """Whether files may use a variable of the environment."""
        return not self.why_not(name)

    def why_not(self, name: str) -> str:
        """Why files may not use a variable of the environment; empty if they may."""
        if not self.prefix:
            return self.refusal or "none may"
        if not name.startswith(self.prefix):
            return self.refusal or f"it does not begin with {self.prefix}"
        return "its name is that of a secret" if is_sensitive(name, self.secrets) else ""


class Filling:
    """Fills in the placeholders of one document, and collects findings and sources."""

    def __init__(
        self,
        document: Document,
        values: PlaceholderValues,
        *,
        fake: Fake,
        sources: dict[str, str],
        index: int | None = None,
        item: Any = None,
        suggest: bool = True,
    ) -> None:
        """Without ``suggest``, hints name no similar names, since the search for them takes long."""
        self.findings: list[Diagnostic] = []
        self.characters = 0
        """The number of characters of the texts that were filled in so far."""
        self._suggest = suggest
        self._document = document
        self._values = values
        self._fake = fake
        self._sources = sources
        self._index = index
        self._item = item
        self._address: str | None = None
        self._environment: set[Path] = set()

    def document(self) -> Document:
        """The document with everything filled in."""
        value = {
            name: self._fill(content, (name,)) for name, content in self._document.value.items()
        }
        return self._document._replace(value=value, environment=frozenset(self._environment))

    def _fill(self, value: Json, path: Path) -> Any:
        if isinstance(value, str):
            return self._text(value, path) if "{" in value else value
        if isinstance(value, dict):
            return {key: self._fill(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _text(self, text: str, path: Path) -> Scalar:
        """A text with its placeholders filled in.

        A text that is nothing but one placeholder becomes its value, with its type.
        """
        only = _PLACEHOLDER.fullmatch(text)
        if only is not None:
            value = self._value_of(only, path)
            self.characters += len(value) if isinstance(value, str) else 0
            return value
        pieces: list[str] = []
        length = end = 0
        for match in _PLACEHOLDER.finditer(text):
            piece = text[end : match.start()] + _written(self._value_of(match, path))
            pieces.append(piece)
            length += len(piece)
            end = match.end()
            if length > MOST_CHARACTERS:
                break
        length += len(text) - end
        self.characters += length
        if pieces and length > MOST_CHARACTERS:
            self._problem(
                f"this text has more than {MOST_CHARACTERS:,} characters once its placeholders "
                "are filled in",
                path=path,
                hint="Shorten it, or the values that are filled in.",
            )
            return ""
        return "".join([*pieces, text[end:]])

    def _value_of(self, match: re.Match[str], path: Path) -> Scalar:
        if match["variable"] is not None:
            if match["dollars"] == "$$":
                return match.group()[1:]
            return self._variable(match["variable"], path)
        if match["escaped"] is not None:
            return match.group()[1:-1] if _is_placeholder(match["escaped"]) else match.group()
        name: str = match["name"]
        if not _is_placeholder(name):
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
                return self._fake_value(rest, path)
            case "run":
                return self._named_run(path)
            case _:
                self._use("worker")
                return self._values.worker

    def _number(self, padding: str, path: Path) -> Scalar:
        if self._index is None:
            return self._outside("index", path)
        if padding and not _PADDED(padding):
            self._problem(
                Message.of("{index:", Quote(padding, ""), "} is not a placeholder"),
                path=path,
                hint="Pad with zeros: {index:03}.",
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
        message: str | Message
        hint: str | Message
        if not isinstance(item, dict):
            message, hint = "an item of this template is no map", "Write {item} alone."
        elif not name:
            message, hint = "an item of this template is a map", "Name a member: {item.NAME}."
        else:
            suggestion = self._similar(name, item)
            message = Message.of(
                f"item {self._index} of this template has no ", Quote(name, "`", is_name=True)
            )
            hint = "Add it to every item."
            if suggestion:
                known = Quote(suggestion, "", is_name=True)
                hint = Message.of("Did you mean {item.", known, "}?")
        self._problem(message, path=path, hint=hint)
        return ""

    def _outside(self, name: str, path: Path) -> str:
        self._problem(
            f"{{{name}}} means something only in a template",
            path=path,
            hint=f"Add `for_each:` with a count or a list; {{{{{name}}}}} stands for these very characters.",
        )
        return ""

    def _named_run(self, path: Path) -> Scalar:
        self._use("run")
        run = self._values.run
        if run is None:
            self._problem(
                "{run} is not defined: this run has no name",
                path=path,
                hint="Give one: --run NAME, or the variable RECONCILE_RUN. In GitHub and GitLab builds it "
                "is known.",
            )
        return run or ""

    def _fake_value(self, name: str, path: Path) -> Scalar:
        self._use("fake")
        if path == ("customer_user_id",):
            self._problem(
                "a name cannot be made up: data is made up for a name",
                path=path,
                hint="Use {index}, {item} or {run}.",
            )
            return ""
        if self._values.fakes() is None:
            self._problem(
                "{fake.…} needs Faker, which is not installed",
                path=path,
                hint="Install it: pip install 'faker>=30'. It is the extra `fake` of adapty-reconciler.",
            )
            return ""
        invented = self._fake(name, f"{self._values.seed}\n{self._identity()}")
        if invented is None:
            self._problem(
                Message.of("{fake.", Quote(name, ""), "} is not known"),
                path=path,
                hint="docs/testing.md lists what can be made up; only what cannot be anybody's is.",
            )
        return invented or ""

    def _identity(self) -> str:
        """The identifier of the profile, the same in every run and worker."""
        if self._address is None:
            value = self._document.value
            name = value.get("customer_user_id") or value.get("profile_id")
            filling = Filling(
                self._document._replace(value={"customer_user_id": name}),
                self._values._replace(run="{run}", worker="{worker}"),
                fake=self._fake,
                sources={},
                index=self._index,
                item=self._item,
            )
            self._address = str(filling.document().value["customer_user_id"])
        return self._address

    def _variable(self, name: str, path: Path) -> Scalar:
        values = self._values
        kind, _, rest = name.partition(".")
        known: Mapping[str, Scalar] = values.variables if kind == "var" else values.environ
        if kind not in ("var", "env") or not rest:
            self._problem(
                Message.of("${", Quote(name, ""), "} is not a variable"),
                path=path,
                hint="Write ${var.NAME} or ${env.NAME}; $${ stands for ${.",
            )
            return ""
        self._use(name)
        if kind == "env" and path[0] in _PRINTED:
            self._problem(
                "a variable of the environment cannot stand here: this is printed, and such values never are",
                path=path,
                hint="Use ${var.NAME}, {run} or {worker}.",
            )
            return ""
        if kind == "env" and (why := values.why_not(rest)):
            self._problem(
                Message.of("${env.", Quote(rest, ""), f"}} may not be used: {why}"),
                path=path,
                hint="Such variables begin with `env_prefix` of reconcile.yaml and, in a build, with "
                "RECONCILE_ENV_PREFIX; those that are named like secrets are never used.",
            )
            return ""
        if rest not in known:
            suggestion = self._similar(rest, known)
            where = "reconcile.yaml, under `variables`" if kind == "var" else "the environment"
            self._problem(
                Message.of(f"${{{kind}.", Quote(rest, ""), "} is not defined"),
                path=path,
                hint=f"Did you mean ${{{kind}.{suggestion}}}?"
                if suggestion
                else f"Define it in {where}.",
            )
            return ""
        if kind == "env":
            self._environment.add(path)
        return known[rest]

    def _unknown(self, name: str, path: Path) -> None:
        suggestion = self._similar(name, _NAMES)
        self._problem(
            Message.of("{", Quote(name, ""), "} is not a placeholder"),
            path=path,
            hint=f"Did you mean {{{suggestion}}}?"
            if suggestion
            else f"Known are {', '.join(f'{{{each}}}' for each in _NAMES)}.",
        )

    def _similar(self, name: str, known: Iterable[str]) -> str | None:
        may_suggest = self._suggest and len(self.findings) < _MOST_SUGGESTIONS
        return did_you_mean(name, known) if may_suggest else None

    def _use(self, name: str) -> None:
        self._sources[name] = self._values.digest_of(name)

    def _problem(self, message: str | Message, *, path: Path, hint: str | Message) -> None:
        self.findings.append(
            error("template/placeholder", message, source=self._document.at(path), hint=hint)
        )


def _is_placeholder(name: str) -> bool:
    kind, *rest = re.split("[.:]", name, maxsplit=1)
    return kind in _NAMES and not (rest and kind in ("run", "worker"))


def _written(value: Scalar) -> str:
    """A value within a text, as JSON would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def escaped(text: str) -> str:
    """A text that becomes this text when placeholders are filled in."""
    return _PLACEHOLDER.sub(_escaped, text) if "{" in text else text


def _escaped(match: re.Match[str]) -> str:
    """The escaped form of a match that would be a placeholder."""
    if match["variable"] is not None:
        return f"${match.group()}"
    name = match["name"] or match["escaped"]
    return f"{{{match.group()}}}" if _is_placeholder(name) else match.group()
