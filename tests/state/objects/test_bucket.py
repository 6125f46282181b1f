"""Buckets of three clouds on a server that loses, refuses and pretends."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from reconciler.errors import ReconcileError, StateRefused, UsageError
from reconciler.state.objects.bucket import BucketPlace, ObjectBucket, open_bucket
from reconciler.state.objects.protocol import Blob, Created
from reconciler.state.store import CommitUnknown, StateUnreachable
from tests.state.objects.conftest import Opener
from tests.support.object_server import AZURE_KEY, Faults, ObjectServer

KINDS = ("s3", "gs", "az")
each_kind = pytest.mark.parametrize("kind", KINDS)


def content(text: str = "") -> bytes:
    return f"{uuid4().hex} {text}".encode()


# --- what an object is ---------------------------------------------------------------------------


@each_kind
def test_an_object_is_created_once_and_read_by_all(opened: Opener, kind: str) -> None:
    bucket, first = opened(kind), content()
    assert bucket.get("log/1") is None
    assert bucket.create("log/1", first) is Created.DONE
    assert bucket.create("log/1", content()) is Created.CONFLICT
    there = bucket.get("log/1")
    assert there is not None
    assert there.data == first
    assert abs(there.modified - time.time()) < 10


@each_kind
def test_an_object_is_replaced_only_where_it_is_what_was_read(opened: Opener, kind: str) -> None:
    bucket = opened(kind)
    first = bucket.replace("head", content("a"), tag=None)
    assert first is not None
    assert bucket.replace("head", content("b"), tag=None) is None
    second = bucket.replace("head", content("c"), tag=first)
    assert second is not None
    assert bucket.replace("head", content("d"), tag=first) is None
    there = bucket.get("head")
    assert there is not None
    assert there.data.endswith(b"c")
    assert there.tag == second


@each_kind
def test_objects_are_listed_below_a_folder_and_deleted_though_some_are_gone(
    opened: Opener, kind: str
) -> None:
    bucket = opened(kind)
    for name in ("a/1", "a/2", "ab/3"):
        bucket.put(name, content())
    assert bucket.list("a") == ["a/1", "a/2"]
    bucket.delete(["a/0", "a/1", "a/2"])
    assert bucket.list("") == ["ab/3"]


@each_kind
def test_two_states_in_one_bucket_see_nothing_of_each_other(opened: Opener, kind: str) -> None:
    one, other = opened(kind), opened(kind)
    one.put("head", content())
    assert other.get("head") is None


def test_many_objects_are_read_in_the_order_of_their_names(opened: Opener) -> None:
    bucket = opened()
    for number in (0, 2, 3):
        bucket.put(f"log/{number}", str(number).encode())
    read = bucket.get_many([f"log/{number}" for number in range(5)])
    assert [blob and blob.data for blob in read] == [b"0", None, b"2", b"3", None]
    bucket.close()
    assert len(bucket.get_many(["log/0", "log/2"])) == 2


@each_kind
def test_of_many_who_create_one_object_one_succeeds(opened: Opener, kind: str) -> None:
    bucket = opened(kind)
    with ThreadPoolExecutor(8) as threads:
        for name in range(10):
            creations = [threads.submit(bucket.create, str(name), content()) for _ in range(8)]
            results = [creation.result() for creation in creations]
            assert results.count(Created.DONE) == 1


def test_the_clock_is_that_of_the_store(opened: Opener, server: ObjectServer) -> None:
    bucket = opened()
    with server.faults(clock=3600.0):
        assert abs(bucket.store_time() - time.time() - 3600) < 10
    assert bucket.list("probe") == []


# --- lost and refused answers --------------------------------------------------------------------


@each_kind
def test_what_was_written_counts_though_its_answer_was_lost(
    opened: Opener, server: ObjectServer, kind: str
) -> None:
    bucket = opened(kind)
    with server.faults(lost_answers=1, only="PUT") as cloud:
        assert bucket.create("log/1", content()) is Created.DONE
        assert cloud.requests["PUT"] > 0
        tag = bucket.replace("head", content(), tag=None)
        assert tag is not None
        assert bucket.replace("head", content(), tag=tag) is not None


@each_kind
@pytest.mark.parametrize(
    "fault",
    [
        "lost_requests",
        "lost_answers",
        "conflicts",
        "throttled",
        "throttled_but_done",
        "unavailable",
    ],
)
def test_each_write_is_made_once_whatever_is_lost_and_refused(
    opened: Opener, server: ObjectServer, kind: str, fault: str
) -> None:
    """A writer counts up an object; each success counts once, and nothing is taken for a conflict."""
    bucket = opened(kind)
    with server.faults(**{fault: 0.3}, seed=7):
        for turn in range(30):
            there = bucket.get("count")
            number = int(there.data.split()[1]) if there else 0
            data = content(str(number + 1))
            assert bucket.replace("count", data, tag=there.tag if there else None) is not None
            assert bucket.create(f"log/{turn}", data) is Created.DONE
    there = bucket.get("count")
    assert there is not None
    assert there.data.endswith(b" 30")


def test_a_refusal_with_nothing_there_is_no_conflict(opened: Opener, server: ObjectServer) -> None:
    """S3 answers 409 to one of two that write at once, although neither may have written yet; the library
    calls that "already exists" (arrow-rs-object-store 852)."""
    bucket = opened()
    with server.faults(conflicts=0.7, seed=3):
        assert bucket.create("log/1", content()) is Created.DONE


@pytest.mark.parametrize("fault", ["lost_requests", "unavailable", "throttled"])
def test_a_store_that_stays_away_is_named_after_the_deadline(
    opened: Opener, server: ObjectServer, fault: str
) -> None:
    bucket = opened()
    with server.faults(**{fault: 1}):
        with pytest.raises(StateUnreachable, match="no answer in 20 seconds"):
            bucket.get("head")
        with pytest.raises(CommitUnknown):
            bucket.create("log/1", content())
        with pytest.raises(CommitUnknown):
            bucket.replace("head", content(), tag='"1"\n1')
        with pytest.raises(StateUnreachable):
            bucket.put("snap/1", content())
        bucket.delete(["log/1"])
    assert bucket.get("head") is None


def test_a_write_that_nobody_can_read_back_is_unknown(opened: Opener, server: ObjectServer) -> None:
    bucket = opened()
    bucket.create("log/1", content())
    with server.faults(unavailable=1, only="GET"), pytest.raises(CommitUnknown):
        bucket.create("log/1", content())


@each_kind
def test_a_replacement_that_may_have_been_replaced_itself_is_unknown(
    opened: Opener, server: ObjectServer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is lost, and the next one replaces ours before we look. To call that a conflict would be
    wrong: whoever cleans up after a conflict would remove what the winner builds on."""
    bucket, other = opened(kind, "shared"), opened(kind, "shared")
    name = uuid4().hex
    tag = bucket.replace(name, content(), tag=None)
    read = bucket._read

    def overtaken(name: str, *, purpose: str) -> Blob | None:
        server.cloud.set_faults(Faults())
        there = other.get(name)
        assert there is not None
        assert other.replace(name, content("later"), tag=there.tag) is not None
        return read(name, purpose=purpose)

    monkeypatch.setattr(bucket, "_read", overtaken)
    with server.faults(lost_answers=1, only="PUT"), pytest.raises(CommitUnknown):
        bucket.replace(name, content("ours"), tag=tag)


REFUSALS: dict[str, str] = {
    "refuses_credentials": "does not accept the credentials",
    "forbids_missing": "may not read",
    "has_no_bucket": "there is no such",
}


@each_kind
@pytest.mark.parametrize("fault", REFUSALS)
def test_a_refusal_is_never_taken_for_a_missing_object(
    opened: Opener, server: ObjectServer, kind: str, fault: str
) -> None:
    """The end of the log is a missing object, so a store that only hides it must not end the log."""
    bucket = opened(kind)
    with server.faults(**{fault: True}):
        with pytest.raises(StateUnreachable, match=REFUSALS[fault]):
            bucket.get("log/1")
        with pytest.raises(StateUnreachable):
            bucket.get_many(["log/1", "log/2"])
        if fault != "forbids_missing":
            with pytest.raises(StateUnreachable):
                bucket.create("log/1", content())


@each_kind
def test_who_may_only_read_reads_and_is_told_so_when_writing(
    opened: Opener, server: ObjectServer, kind: str
) -> None:
    bucket = opened(kind)
    bucket.create("log/1", content())
    with server.faults(read_only=True):
        assert bucket.get("log/1") is not None
        for write in (
            lambda: bucket.create("log/2", content()),
            lambda: bucket.put("snap/1", content()),
            lambda: bucket.store_time(),
        ):
            with pytest.raises(StateUnreachable, match="may not write"):
                write()
        bucket.delete(["log/1"])
    assert bucket.list("") == ["log/1"]


# --- servers that do not keep to conditions ------------------------------------------------------

PRETENDERS = {
    "ignores_creation": "creates objects that exist",
    "ignores_match": "replaces objects that have changed",
    "never_matches": "does not replace an object that did not change",
    "knows_no_conditions": "does not know writes under a condition",
}


@each_kind
@pytest.mark.parametrize("fault", PRETENDERS)
def test_a_server_that_does_not_keep_to_conditions_is_refused(
    opened: Opener, server: ObjectServer, kind: str, fault: str
) -> None:
    bucket = opened(kind)
    with server.faults(**{fault: True}), pytest.raises(StateRefused, match=PRETENDERS[fault]):
        bucket.self_test()
    assert bucket.list("") == []


@each_kind
def test_a_server_that_keeps_to_conditions_passes(opened: Opener, kind: str) -> None:
    bucket = opened(kind)
    bucket.self_test()
    assert bucket.list("") == []


def test_an_outage_says_nothing_about_conditions(opened: Opener, server: ObjectServer) -> None:
    bucket = opened()
    with server.faults(lost_answers=0.4, unavailable=0.2, seed=5):
        bucket.self_test()


def test_the_service_itself_needs_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    bucket = open_bucket(BucketPlace("s3", "b", "p", region="eu-central-1"), environ=os.environ)
    bucket.self_test()  # asks nobody: the address does not answer here


# --- secrets, and what others say ----------------------------------------------------------------


@each_kind
def test_nothing_shows_a_secret_or_what_a_server_said(
    opened: Opener, server: ObjectServer, kind: str
) -> None:
    bucket = opened(kind, prefix="team/production")
    shown = repr(bucket)
    calls: list[Callable[[], object]] = [
        lambda: bucket.get("head"),
        lambda: bucket.create("log/1", content()),
        bucket.self_test,
        lambda: pickle.dumps(bucket),
    ]
    for fault in ("refuses_credentials", "read_only", "unavailable", "has_no_bucket"):
        with server.faults(**{fault: 1}):
            for call in calls:
                try:
                    call()
                except (ReconcileError, TypeError) as problem:
                    shown += f"{problem} {getattr(problem, 'hint', '')} {problem.__cause__}"
    assert "team/production" in shown
    for secret in ("a-secret", "a secret text", AZURE_KEY, "127.0.0.1", "devstoreaccount1:"):
        assert secret not in shown


def test_a_network_is_crossed_with_tls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    place = BucketPlace("s3", "b", "p", endpoint="http://minio.internal:9000")
    with pytest.raises(UsageError, match="plain HTTP"):
        open_bucket(place, environ=os.environ)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert isinstance(open_bucket(place, environ=os.environ), ObjectBucket)


def test_a_bucket_of_aws_needs_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    place = BucketPlace("s3", "b", "p")
    with pytest.raises(UsageError, match="region"):
        open_bucket(place, environ=os.environ).get("head")
    assert open_bucket(place._replace(region="eu-west-1"), environ=os.environ)._client("reading")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert open_bucket(place, environ=os.environ)._client("reading")


def test_the_configured_server_wins_over_variables(
    server: ObjectServer, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened()  # sets the variables
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    place = BucketPlace("s3", "bucket1", uuid4().hex, endpoint=server.endpoint)
    assert open_bucket(place, environ=os.environ).get("head") is None
