"""The examples that help shows: for each command a line that works when pasted, under what it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EXAMPLES: Mapping[str, Sequence[tuple[str, str]]] = {
    "": (
        ("reconcile init && reconcile plan", "Begin a project, and see what apply would change."),
        ("reconcile plan --env production --out reviewed.plan", "Save a plan for review."),
        ("reconcile apply reviewed.plan", "Apply exactly what was reviewed."),
    ),
    "init": (
        ("reconcile init", "Begin in this folder."),
        ("reconcile init qa", "Begin in a folder of its own."),
    ),
    "validate": (
        ("reconcile validate", "Check all profile files."),
        ("reconcile validate profiles/qa --format github", "Annotate a pull request."),
        ("reconcile validate --strict --all", "Fail for warnings too, and list every one."),
        ("cat jane.yaml | reconcile validate -", "Check a text, in an editor for example."),
    ),
    "explain": (
        ("reconcile explain yaml/ambiguous-scalar", "Read why it matters, and how to mend it."),
        ("reconcile explain", "List all rules and hazards."),
    ),
    "render": (
        ("reconcile render profiles/qa", "See what templates and defaults make."),
        ("reconcile render --select 'qa-*' --format json", "The same, for a program."),
    ),
    "fmt": (
        ("reconcile fmt", "Format all profile files."),
        ("reconcile fmt --check", "Fail in a build where a file is not formatted."),
        ("cat jane.yaml | reconcile fmt -", "Format a text, in an editor for example."),
    ),
    "plan": (
        ("reconcile plan", "Show what apply would change."),
        ("reconcile plan profiles/qa --select label:smoke", "Plan a part."),
        (
            "reconcile plan --prune --out reviewed.plan",
            "Save a plan that deletes what no file declares.",
        ),
        ("reconcile plan --format markdown --since origin/main", "Comment on a pull request."),
    ),
    "show": (
        ("reconcile show reviewed.plan", "Print a saved plan."),
        ("reconcile show reviewed.plan --show-requests", "With the requests that apply sends."),
    ),
    "apply": (
        ("reconcile apply", "Plan, ask, and apply."),
        ("reconcile apply --dry-run", "Plan, and stop there."),
        ("reconcile apply reviewed.plan --auto-approve", "Apply what was reviewed, in a build."),
        ("reconcile apply --env production --rate 60/min", "Slower than configured."),
    ),
    "refresh": (
        ("reconcile refresh", "See what changed at the API since the last apply."),
        (
            "reconcile refresh --select 'qa-*' --detailed-exitcode",
            "Exit with 2 where a test user changed.",
        ),
    ),
    "import": (
        ("reconcile import user-1 user-2", "Write files for profiles that exist, and record them."),
        (
            "reconcile import --ids ids.txt --to profiles/staff --dry-run",
            "Try it with a list of ids.",
        ),
    ),
    "sweep": (
        ("reconcile sweep --dry-run", "See which test users have expired."),
        ("reconcile sweep --auto-approve", "Delete them."),
    ),
    "destroy": (
        ("reconcile destroy --select label:e2e --dry-run", "See which test users would go."),
        ("reconcile destroy --select label:e2e --out teardown.plan", "Have it reviewed first."),
        ("reconcile destroy --select 'e2e-*' --auto-approve", "Tear them down after a test run."),
    ),
    "doctor": (
        ("reconcile doctor", "Is everything as it should be?"),
        ("reconcile doctor --env production --json", "The same, for a monitor."),
    ),
    "history": (
        ("reconcile history", "Who applied what, and when?"),
        ("reconcile history run-1f", "Each change of a run, by the beginning of its name."),
        ("reconcile history --address qa-jane", "What happened to a profile?"),
    ),
    "state": (
        ("reconcile state list", "List what the state records."),
        ("reconcile state show qa-jane", "Show one record."),
    ),
    "state list": (("reconcile state list --json", "All records, for a program."),),
    "state show": (("reconcile state show qa-jane", "Show what is known of a profile."),),
    "state mv": (
        (
            "reconcile state mv profile:UUID qa-jane",
            "A profile was linked to another id elsewhere.",
        ),
    ),
    "state rm": (("reconcile state rm qa-jane", "Forget a profile; at the API it stays."),),
    "state pull": (("reconcile state pull > state.json", "Save the whole state."),),
    "state push": (("reconcile state push state.json", "Put an edited state back."),),
    "state backups": (("reconcile state backups", "Which backups are there?"),),
    "state migrate": (
        (
            "reconcile state migrate --to s3://team-bucket/reconcile/production",
            "From a file to a bucket.",
        ),
    ),
    "state restore": (
        ("reconcile state restore ID", "Put a backup back; `state backups` lists them."),
    ),
    "state new": (("reconcile state new", "Begin anew, where the former state is gone for good."),),
    "state path": (("reconcile state path", "Where is the state?"),),
    "state move": (("reconcile state move", "Take the state out of the checkout."),),
    "state setup": (
        ("reconcile state setup --print", "The SQL for the owner of the database."),
        ("reconcile state setup --writer ci --reader plans", "Make it, as the owner."),
    ),
    "state unlock": (("reconcile state unlock ID", "Remove the lock of a process that is gone."),),
    "help": (("reconcile help state rm", "The same as reconcile state rm --help."),),
    "schema": (
        (
            "reconcile schema profile > schemas/profile.schema.json",
            "After an upgrade, for editors.",
        ),
        ("reconcile schema plan", "What may a program expect of a plan?"),
    ),
    "completion": (
        ('eval "$(reconcile completion bash)"', "In ~/.bashrc."),
        ('eval "$(reconcile completion zsh)"', "In ~/.zshrc, after compinit."),
        ("reconcile completion fish | source", "In ~/.config/fish/config.fish."),
    ),
    "emulator": (
        ("reconcile emulator --port 8080 --debug", "Run the local API, and look into it."),
        (
            "reconcile emulator --fault 503:rate=0.1 --rate-limit 60/min",
            "Try what happens in trouble.",
        ),
    ),
}
"""Lines and what they do, by the name of the command; the program itself has none."""
