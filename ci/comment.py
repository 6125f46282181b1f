"""The one comment of a plan on a pull request: kept up to date, and read again after the merge.

    comment.py update NUMBER FILE    writes FILE as the comment, in the place of the one before
    comment.py digest COMMIT         prints the digest in the comment of the pull request of a merge, and
                                     the commit that its plan compared with, if it did

Standard library only. The token comes from TOKEN; GITHUB_API_URL and GITHUB_REPOSITORY say where. Only
comments by AUTHOR count: others may write the same marker.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

MARKER = re.compile(
    r"<!-- reconcile:plan:([^ >]*)(?: (sha256:[0-9a-f]{64}))?(?: since:([0-9a-f]{40,64}))? -->"
)
TRIES = 4
MOST_PAGES = 50


class Failure(Exception):
    """GitHub did not do it. ``status`` is 0 where it could not be asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def call(method: str, path: str, body: object = None) -> Any:
    """One call of GitHub's API, tried again where that may help.

    Raises Failure.
    """
    request = urllib.request.Request(
        f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {os.environ['TOKEN']}",
            "Accept": "application/vnd.github+json",
            "Content-Type": "application/json",
            "User-Agent": "reconcile",
            "X-GitHub-Api-Version": "2022-11-28",
        },
    )
    for attempt in range(1, TRIES + 1):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as problem:
            failure = Failure(problem.code, f"{method} {path}: status {problem.code}")
            again = problem.code == 429 or problem.code >= 500
        except (OSError, ValueError) as problem:
            failure, again = Failure(0, f"{method} {path}: {type(problem).__name__}"), True
        # A comment that was written although its answer was lost would be written twice.
        if not again or attempt == TRIES or (method == "POST" and failure.status != 429):
            raise failure
        time.sleep(2**attempt * float(os.environ.get("PAUSE", "1")))
    raise AssertionError


def comments(number: int) -> Iterator[dict[str, Any]]:
    """The comments by AUTHOR that hold a plan, the oldest first."""
    for page in range(1, MOST_PAGES + 1):
        found = call("GET", f"issues/{number}/comments?per_page=100&page={page}")
        for comment in found:
            login = (comment.get("user") or {}).get("login")
            if login == os.environ["AUTHOR"] and MARKER.match(comment.get("body") or ""):
                yield comment
        if len(found) < 100:
            return


def update(number: int, text: str) -> str:
    """Puts a text in the place of the comment of its environment, or writes the first; says what it did."""
    marker = MARKER.match(text)
    if marker is None:
        raise Failure(0, "the text has no marker, so its comment could not be found again")
    for comment in comments(number):
        found = MARKER.match(comment["body"])
        if found is not None and found[1] == marker[1]:
            if comment["body"].strip() == text.strip():
                return "the comment is up to date"
            call("PATCH", f"issues/comments/{int(comment['id'])}", {"body": text})
            return "the comment is updated"
    call("POST", f"issues/{number}/comments", {"body": text})
    return "the comment is written"


def reviewed(commit: str, environment: str) -> str:
    """The digest that the merged pull request of a commit was reviewed with; after a blank, the commit that
    the plan compared with (``--since``).

    Raises Failure where there is none, or more than one.
    """
    pulls = [
        pull
        for pull in call("GET", f"commits/{quote(commit, safe='')}/pulls")
        if pull.get("merged_at")
    ]
    exact = [pull for pull in pulls if pull.get("merge_commit_sha") == commit] or pulls
    if len(exact) != 1:
        raise Failure(0, f"{len(exact)} merged pull requests belong to {commit}; give the digest")
    number = int(exact[0]["number"])
    found = [
        (match[1], match[2] and " ".join(filter(None, (match[2], match[3]))))
        for comment in comments(number)
        if (match := MARKER.match(comment["body"])) is not None
    ]
    digests = {
        digest for name, digest in found if not environment or name == quote(environment, safe="")
    }
    if len(digests) != 1 or None in digests:
        raise Failure(0, f"pull request {number} has no comment with the digest of one plan")
    return str(digests.pop())


def main(arguments: list[str]) -> int:
    match arguments:
        case ["update", number, file]:
            path = Path(file)
            if not path.is_file():
                print("::notice::there is no plan to comment on")
                return 0
            try:
                print(update(int(number), path.read_text("utf-8")))
            except Failure as failure:
                if failure.status in (401, 403, 404):  # a fork's token may only read
                    print("::notice::this token may not comment; the plan is in the job summary")
                    return 0
                print(f"::error::the comment could not be written: {failure}")
                return 1
            return 0
        case ["digest", commit]:
            try:
                print(reviewed(commit, os.environ.get("ENVIRONMENT", "")))
            except Failure as failure:
                print(f"::error::no reviewed digest: {failure}", file=sys.stderr)
                return 1
            return 0
        case _:
            print(__doc__, file=sys.stderr)
            return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
