"""The view model behind every format that people read: a plan with everything that a reviewer needs. Pure.

Every text of a view has passed `shown` or `quoted`: it is one line without control, direction or
invisible characters, and the log of a build does not obey it. A writer adds the escaping of its medium
(Markdown, HTML), and decides nothing about the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from reconciler.commands import Command, Invocation, arguments, file_argument
from reconciler.core.options import Rate, ReadScope, Target
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    HazardKind,
    HazardScope,
    HazardSeverity,
    LineAuthor,
    Mode,
    Op,
    Plan,
    Request,
    Scope,
)
from reconciler.errors import Source
from reconciler.reports.tally import MOST_NAMED, GroupKey, Tally, TemplateGroup, group_key
from reconciler.reports.wording import (
    author_text,
    count,
    field_wording,
    join_with_and,
    place_text,
    request_count,
    request_lines,
    sending_time,
    shown_often,
)
from reconciler.values import FieldPath, shown

SYMBOLS = {
    Action.CREATE: "+",
    Action.ADOPT: "~",
    Action.UPDATE: "~",
    Action.RENAME: "~",
    Action.LINK: "~",
    Action.DELETE: "-",
    Action.FORGET: "x",
}

_MOST_AUTHORS = 3
"""Authors of one change that its heading names; each field names its own."""
ACTIONS_BY_SEVERITY = (
    Action.DELETE,
    Action.LINK,
    Action.UPDATE,
    Action.ADOPT,
    Action.CREATE,
    Action.RENAME,
    Action.FORGET,
)
"""The worst first."""


class Links(NamedTuple):
    """Web addresses of lines of files: ``base``, ``prefix`` (the folder of the configuration in its
    repository), the file, and ``#L`` with the line. Without a base there are no addresses."""

    base: str = ""
    prefix: str = ""

    def to(self, source: Source | None) -> str:
        """The web address of a place, or empty. Quoting keeps a file name from changing the address."""
        if not self.base or source is None or source.file.startswith("/"):
            return ""
        if ".." in source.file.split("/"):  # a browser would leave the folder, or the repository
            return ""
        path = quote(f"{self.prefix}{source.file}".encode("utf-8", "surrogatepass"), safe="/")
        return f"{self.base}{path}" + (f"#L{source.line}" if source.line else "")

    def path(self, file: str) -> str:
        """The path of a file from the root of the repository, as builds name it."""
        return file if file.startswith("/") else self.prefix + file


class FieldView(NamedTuple):
    """The change of one field. ``after`` of a cleared one is ``cleared``; ``before`` is ``None`` where
    nothing was there or it was never known."""

    mark: str
    """``+``, ``~``, ``-``, or ``x`` for a field that is no longer managed."""
    path: str
    op: Op
    before: str | None
    after: str
    basis: Basis
    note: str
    """How sure ``before`` is, where that is worth a word."""
    file: str
    line: int
    link: str
    author: str


REFUSED = "apply will refuse this: "
"""Stands before each danger for which apply refuses a plan, in every format."""


class HazardView(NamedTuple):
    """A danger with its sentence: of the plan as a whole, of ``number`` changes, or of ``number`` profiles of
    this ``file``."""

    kind: str
    message: str
    scope: HazardScope
    severity: HazardSeverity
    addresses: tuple[str, ...] = ()
    """The first few of the changes, where they are named."""
    number: int = 1
    file: str = ""

    @property
    def refused(self) -> bool:
        """Whether apply refuses a plan with it."""
        return self.scope is HazardScope.PLAN and self.severity is HazardSeverity.REFUSED

    @property
    def is_summed(self) -> bool:
        """Whether it only matters how many changes have it."""
        return self.scope is HazardScope.CHANGE and self.severity is HazardSeverity.SUMMED

    @property
    def subject(self) -> str:
        """What it endangers: ``old-1``, ``3 profiles (a, b, c)``, ``3,000 profiles``; else empty."""
        if self.scope is not HazardScope.CHANGE:
            return ""
        if not self.addresses:
            return count(self.number, "profile")
        if self.number == 1:
            return self.addresses[0]
        more = ", …" if self.number > len(self.addresses) else ""
        return f"{self.number:,} profiles ({', '.join(self.addresses)}{more})"

    @property
    def sentence(self) -> str:
        """The whole sentence."""
        if self.refused:
            return f"{REFUSED}{self.message}"
        return f"{self.subject}: {self.message}" if self.subject else self.message


class ChangeView(NamedTuple):
    """The change of one profile."""

    symbol: str
    address: str
    action: Action
    reason: str
    labels: tuple[str, ...]
    protect: bool
    hazards: tuple[HazardView, ...]
    fields: tuple[FieldView, ...]
    sent: tuple[Request, ...]
    place: str
    file: str
    line: int
    link: str
    author: str
    """Who wrote or removed what changes: the fields of an update, else the profile."""
    template: str = ""
    """As it was written, not to be printed as it is."""
    members: int = 1
    """Changes that this stands for: those of a template."""

    @property
    def requests(self) -> tuple[tuple[str, ...], ...]:
        """The lines of each request exactly as it is sent. Built on demand: they cost more than all the rest,
        and few formats show them."""
        return tuple(tuple(request_lines(request)) for request in self.sent)


class PlanView(NamedTuple):
    """A plan with everything that a reviewer needs. Views of changes are built one by one, on demand."""

    plan: Plan
    """The masked one, if the configuration masks values."""
    environment: str
    digest: str
    """The digest of the plan before masking."""
    masked: tuple[str, ...]
    scope: tuple[str, ...]
    """Phrases that say what the plan is limited to and how it was computed."""
    hazards: tuple[HazardView, ...]
    """Those of the plan, then the named ones of changes, then sums; the gravest first."""
    orphans: Sequence[str]
    basis: Mapping[Basis, int]
    """How many fields are known in which way."""
    unverifiable: tuple[str, ...]
    """The paths of fields with a ``before`` that the API never returns."""
    duration: str
    command: str
    """The command that applies exactly this plan, or nothing."""
    plan_command: str
    """The command that prints this plan."""
    again: str
    """The command that applies a plan like this one, after it was asked about."""
    invocation: Invocation
    blame: Mapping[tuple[str, FieldPath], LineAuthor]
    links: Links
    groups: Mapping[GroupKey, TemplateGroup]
    planned: str
    """When it was planned and with which version, as a sentence; empty where nobody knows."""

    @classmethod
    def of(
        cls,
        plan: Plan,
        *,
        tally: Tally | None = None,
        rate: Rate | None = None,
        masked: tuple[str, ...] = (),
        blame: Mapping[tuple[str, FieldPath], LineAuthor] | None = None,
        links: Links | None = None,
        invocation: Invocation = Invocation(),  # noqa: B008
        saved: str | None = None,
        planned: str = "",
    ) -> PlanView:
        """The view of a plan. ``tally`` counted all of its changes; without one, they are counted here.
        ``saved`` is the file that the plan is saved in. Commands repeat the options of ``invocation``.
        ``planned`` says when and with which version the plan was made."""
        if tally is None:
            tally = Tally.of(plan.changes)
        return cls(
            plan=plan,
            environment=shown(plan.environment),
            digest=plan.digest,
            masked=masked,
            scope=(*_mode_phrases(plan), *_scope(plan.scope), *_target(plan.target)),
            hazards=tuple(_hazard_views(plan, tally)),
            orphans=plan.orphans,
            basis=tally.basis,
            unverifiable=tuple(map(shown, sorted(tally.unverifiable))),
            duration=sending_time(
                plan.summary["requests"], plan.summary["requests_max"], rate=rate
            ),
            command=_apply_command(plan, invocation, saved=saved),
            plan_command=_plan_command(plan).text(invocation),
            again=_again(plan).text(invocation),
            invocation=invocation,
            blame=blame or {},
            links=links or Links(),
            groups=tally.groups,
            planned=planned,
        )

    @property
    def summary(self) -> Mapping[str, int]:
        return self.plan.summary

    @property
    def requests(self) -> str:
        """How many requests an apply sends, retries aside, after how many that read the API for the plan, and
        how long it takes; empty where there are none."""
        least, most = self.summary["requests"], self.summary["requests_max"]
        reads = self.plan.scope.reads
        parts = [request_count(least, most)] if most else []
        parts += [f"{count(reads, 'read')} at the API"] if reads else []
        return ", ".join(filter(None, [" after ".join(parts), self.duration if most else ""]))

    @property
    def effect(self) -> str:
        """The effect of the plan: ``1 to update, 98 unchanged``."""
        unchanged = self.summary["unchanged"]
        parts = [] if self.is_empty else [self.totals]
        parts += [f"{unchanged:,} unchanged"] if unchanged else []
        return ", ".join(parts) or "no profiles"

    @property
    def is_refused(self) -> bool:
        """Whether apply will refuse the plan."""
        return any(hazard.refused for hazard in self.hazards)

    @property
    def is_idle_sweep(self) -> bool:
        """Whether it is a sweep that has nothing to do."""
        return self.is_empty and self.plan.mode is Mode.SWEEP

    @property
    def is_empty(self) -> bool:
        return self.plan.is_empty

    @property
    def changes(self) -> Iterator[ChangeView]:
        """Every change in the plan's order, built anew each time."""
        return map(self.change, self.plan.changes)

    @property
    def leaders(self) -> Iterator[Change]:
        """The first change of each group, and every change that is in none."""
        begun: set[GroupKey] = set()
        for change in self.plan.changes:
            key = group_key(change)
            if key not in begun:
                yield change
                if key is not None:
                    begun.add(key)

    def group(self, change: Change) -> ChangeView:
        """The view of the group of a change, or of the change alone."""
        key = group_key(change)
        group = None if key is None else self.groups.get(key)
        view = self.change(change)
        return view if group is None or group.size < 2 else _group_view(view, group)

    def change(self, change: Change) -> ChangeView:
        """The view of one change."""
        heading = self.heading(change)
        source = change.source if change.action is not Action.DELETE else None
        return heading._replace(
            fields=self._field_views(change, file=heading.file), link=self.links.to(source)
        )

    def heading(self, change: Change) -> ChangeView:
        """The view of a change without its fields, which cost more than the rest, and without its link."""
        source = change.source
        file = shown(source.file) if source else ""
        address = shown(change.address)
        return ChangeView(
            symbol=SYMBOLS[change.action],
            address=address,
            action=change.action,
            reason=shown_often(change.reason),
            labels=tuple(map(shown_often, change.labels)),
            protect=change.protect,
            hazards=tuple(
                [
                    HazardView(
                        shown_often(hazard.kind),
                        shown_often(hazard.message),
                        HazardScope.CHANGE,
                        severity=hazard.severity,
                        addresses=(address,),
                    )
                    for hazard in change.hazards
                ]
            ),
            fields=(),
            sent=change.requests,
            place=place_text(source),
            file=file,
            line=source.line if source else 0,
            link="",
            author=self._authors(change),
            template=change.template,
        )

    def _field_views(self, change: Change, *, file: str) -> tuple[FieldView, ...]:
        """The views of the fields of a change, whose file is shown as ``file``."""
        source, links = change.source, self.links if self.links.base else None
        views = []
        for item in change.fields:
            wording, line = field_wording(item, change.action), item.line
            place = link = ""
            if source is None or not line:
                line = 0
            else:
                place = shown(item.file) if item.file else file
                if links is not None:
                    link = links.to(Source(item.file or source.file, line))
            views.append(
                FieldView(
                    wording.mark,
                    shown_often(item.path),
                    item.op,
                    wording.before,
                    wording.after,
                    item.basis,
                    wording.note,
                    place,
                    line,
                    link,
                    self._author(change, item.path) if self.blame else "",
                )
            )
        return tuple(views)

    def orphan_author(self, address: str) -> str:
        """Who removed the declaration of an orphan; empty without blame."""
        return author_text(self.blame.get((address, "")))

    def _author(self, change: Change, path: FieldPath) -> str:
        """The person who wrote or removed a field; with an empty path, the profile."""
        return author_text(self.blame.get((change.address, path)))

    def _authors(self, change: Change) -> str:
        """The authors of the fields that change in a profile which exists; of another change, the author of
        the profile."""
        if not self.blame:
            return ""
        if change.action in (Action.UPDATE, Action.ADOPT, Action.LINK):
            texts = {self._author(change, item.path): None for item in change.fields}
            texts.pop("", None)
            names = [*texts]
            if names:
                more = len(names) - _MOST_AUTHORS
                return "; ".join(
                    [*names[:_MOST_AUTHORS], *([f"and {more:,} more"] if more > 0 else [])]
                )
        return self._author(change, "")

    @property
    def orphan_note(self) -> str:
        """How many of the orphans come from a file that still exists; empty for a plan that prunes."""
        number = sum(hazard.number for hazard in self.plan.hazards if hazard.file)
        if not number or self.plan.mode is Mode.PRUNE:
            return ""
        verb = "comes" if number == 1 else "come"
        return f"{number:,} of them {verb} from a file that still exists"

    @property
    def totals(self) -> str:
        """The effect of the plan in one sentence, without the parts that are zero."""
        summary = self.summary
        parts = [f"{summary[action]:,} to {action}" for action in Action if summary[action]]
        return ", ".join(parts) or "nothing to change"

    @property
    def certainty(self) -> str:
        """How sure the plan is of what was there, by basis."""
        words = {
            Basis.OBSERVED: "seen at the API",
            Basis.RECORDED: "as this tool last wrote",
            Basis.UNCERTAIN: "uncertain after a write of unknown outcome",
            Basis.NONE: "never known",
        }
        parts = [f"{self.basis[key]:,} {word}" for key, word in words.items() if self.basis[key]]
        fields = count(sum(self.basis.values()), "value")
        return f"Of {fields} before the change: {', '.join(parts)}." if parts else ""

    @property
    def undo(self) -> str:
        """The way back, and the effects that cannot be taken back."""
        if self.is_empty:
            return ""
        kinds: Counter[str] = Counter()
        for hazard in self.hazards:
            if hazard.scope is HazardScope.CHANGE:
                kinds[hazard.kind] += hazard.number
        never = [
            count(kinds[kind], noun)
            for kind, noun in (
                (HazardKind.DELETE, "deletion"),
                (HazardKind.LINK, "link"),
                (HazardKind.NEW_DEVICE_ID, "new installation"),
            )
            if kinds[kind]
        ]
        unknown = self.basis[Basis.NONE] + self.basis[Basis.UNCERTAIN]
        if unknown:
            never.append(f"what {count(unknown, 'field')} held that nobody knew")
        advice = "Revert the commit and apply again"
        if created := self.summary[Action.CREATE]:
            advice += f"; --prune then deletes {count(created, 'created profile')}"
        return f"{advice}. That cannot take back {join_with_and(never)}." if never else f"{advice}."

    @property
    def blindness(self) -> str:
        """Which fields nobody can verify, by name; empty where there are none."""
        if not self.unverifiable:
            return ""
        names = join_with_and(self.unverifiable)
        return f"The API never returns {names}: what was there is what this tool last wrote."


def severity_rank(change: Change) -> int:
    """How soon a reviewer must see a change: 0 first."""
    if change.action in (Action.DELETE, Action.LINK):
        return ACTIONS_BY_SEVERITY.index(change.action)
    if any(hazard.severity is HazardSeverity.NAMED for hazard in change.hazards):
        return 2
    if any(item.op is Op.CLEAR for item in change.fields):
        return 3
    return 2 + ACTIONS_BY_SEVERITY.index(change.action)


def _hazard_views(plan: Plan, tally: Tally) -> Iterator[HazardView]:
    """Those of the plan, then those that are named, then sums; the gravest first."""
    files = 0
    for hazard in plan.hazards:
        files += hazard.scope is HazardScope.FILE
        if files <= MOST_NAMED or hazard.scope is HazardScope.PLAN:
            yield HazardView(
                shown(hazard.kind),
                shown(hazard.message),
                hazard.scope,
                severity=hazard.severity,
                number=max(1, hazard.number),
                file=shown(hazard.file),
            )
    if files > MOST_NAMED:
        yield HazardView(
            HazardKind.FILE_SHRANK,
            f"{files - MOST_NAMED:,} more files have the hazard {HazardKind.FILE_SHRANK}",
            HazardScope.FILE,
            severity=HazardSeverity.NAMED,
        )
    summed = []
    for kind, sentences in tally.sentences.items():
        is_named = getattr(kind, "severity", HazardSeverity.SUMMED) is HazardSeverity.NAMED
        views = [
            HazardView(
                shown(kind),
                shown(sentence),
                HazardScope.CHANGE,
                severity=HazardSeverity.NAMED if is_named else HazardSeverity.SUMMED,
                addresses=tuple(map(shown, each.addresses)) if is_named or each.number == 1 else (),
                number=each.number,
            )
            for sentence, each in sentences.items()
        ]
        if rest := tally.hazards[kind] - sum(each.number for each in sentences.values()):
            views.append(
                HazardView(
                    shown(kind),
                    f"{shown(kind)} as well, each in its own words",
                    HazardScope.CHANGE,
                    severity=HazardSeverity.SUMMED,
                    number=rest,
                )
            )
        if is_named:
            yield from views
        else:
            summed += views
    yield from sorted(summed)


def _group_view(first: ChangeView, group: TemplateGroup) -> ChangeView:
    """The group, shown as its first change."""
    fields = zip(first.fields, group.befores, group.afters, strict=True)
    return first._replace(
        address=shown(first.template),
        members=group.size,
        fields=tuple(
            item._replace(
                before=None if item.before is None else befores, after=afters or item.after
            )
            for item, befores, afters in fields
        ),
        place=f"{count(group.size, 'profile')} from {first.place}",
        sent=(),
    )


def _mode_phrases(plan: Plan) -> Iterator[str]:
    if plan.mode is Mode.PRUNE and not plan.scope.include_adopted:
        yield "profiles in no file are deleted"
    elif plan.mode is Mode.SWEEP:
        yield "only expired profiles that this tool created"


def _scope(scope: Scope) -> Iterator[str]:
    limits = [*map(shown, scope.select)]
    if limits:
        yield f"only {join_with_and(limits)}"
    if scope.exclude:
        yield f"without {join_with_and([*map(shown, scope.exclude)])}"
    if scope.since:
        yield f"only profiles whose files changed since {shown(scope.since[:12])}"
    if scope.paths:
        yield f"only profiles of {join_with_and([*map(shown, scope.paths)])}"
    if scope.reassert:
        yield "every managed field is sent again, whatever the state says"
    if scope.include_adopted:
        yield "profiles in no file are deleted, also those that this tool did not create"
    if scope.refresh:
        yield _reading(scope)


def _reading(scope: Scope) -> str:
    """Which profiles were read at the API for a plan."""
    parts = []
    if scope.read:
        which = " (those to be written)" if scope.refresh is ReadScope.CHANGED else ""
        parts.append(f"{count(scope.read, 'recorded profile')} read{which}")
    if scope.looked_up:
        parts.append(
            f"{count(scope.looked_up, 'profile')} looked up that the state does not record"
        )
    if not parts:
        return "there was no profile to read at the API"
    if scope.read_apart:
        parts.append(f"{count(scope.read_apart, 'more request')} for what profiles do not show")
    return f"at the API {join_with_and(parts)}"


def _target(target: Target | None) -> Iterator[str]:
    """Says where the requests go, for any API but the built-in emulator, and what is refused there."""
    if target is not None and target.on_existing == "refuse":
        yield "profiles that exist and are not recorded are refused"
    if target is None or target.key_env is None:
        return
    text = f"requests go to {target.address} (dialect {target.dialect}, key in {target.key_env})"
    if target.proxy or target.proxy_env:
        text += f" through the proxy {target.proxy or f'in {target.proxy_env}'}"
    if target.ca_bundle:
        text += f", with the certificates of {target.ca_bundle}"
    yield shown(text)


def _apply_command(plan: Plan, invocation: Invocation, *, saved: str | None) -> str:
    approval = ("--auto-approve", "--digest", plan.digest)
    if plan.mode in (Mode.SWEEP, Mode.DESTROY):
        words = (plan.mode.value, *approval, *_shape(plan.scope))
        return Command(words, plan.environment).text(invocation)
    if not (plan.scope.refresh or plan.scope.paths):
        words = ("apply", *approval, *_mode(plan), *_shape(plan.scope))
        return Command(words, plan.environment).text(invocation)
    # A plan that is made by apply would not have what the API answered to this one, and takes no paths.
    file = file_argument(saved or "reviewed.plan")
    line = Command(("apply", file, *approval), plan.environment).text(invocation)
    if saved is not None:
        return line
    again = _plan_command(plan)
    again = again._replace(words=(*again.words, "--out", file))
    return f"{again.text(invocation)} && {line}"


def _plan_command(plan: Plan) -> Command:
    if plan.mode in (Mode.SWEEP, Mode.DESTROY):
        return Command((plan.mode.value, "--dry-run", *_shape(plan.scope)), plan.environment)
    paths = arguments(plan.scope.paths)
    return Command(("plan", *_mode(plan), *_shape(plan.scope), *paths), plan.environment)


def _again(plan: Plan) -> Command:
    if plan.mode is Mode.SWEEP:
        return Command(("sweep", *_shape(plan.scope)), plan.environment)
    return Command(("apply", *_mode(plan), *_shape(plan.scope)), plan.environment)


def _mode(plan: Plan) -> Iterator[str]:
    if plan.scope.refresh is not None:
        yield "--refresh" if plan.scope.refresh is ReadScope.ALL else "--refresh=changed"
    if plan.mode is Mode.PRUNE:
        yield "--prune"
    if plan.scope.include_adopted:
        yield "--include-adopted"
    if plan.scope.reassert:
        yield "--reassert"


def _shape(scope: Scope) -> Iterator[str]:
    if scope.since:
        yield from ("--since", scope.since)
    for option, patterns in (("--select", scope.select), ("--exclude", scope.exclude)):
        for pattern in patterns:
            yield from (option, pattern)
