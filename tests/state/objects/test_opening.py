"""From the address of a state to its store, as a command goes there: by variables and a folder for caches."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from reconciler.errors import ReconcileError, StateRefused
from reconciler.state.location import Encryption, StateLocation
from reconciler.state.objects.sealing import KEY_BYTES, ObjectSealer
from reconciler.state.objects.store import ObjectStore
from reconciler.state.opening import open_store
from tests.state.objects.conftest import Opener
from tests.support.object_server import ObjectServer, only_variables, url_for
from tests.support.states import JANE, US, ZOE, put


@pytest.mark.parametrize("kind", ["s3", "gs", "az"])
def test_two_machines_share_nothing_but_the_address(
    server: ObjectServer, tmp_path: Path, kind: str
) -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    location = StateLocation(
        url_for(kind, f"machines/{tmp_path.name}"),
        "test",
        tmp_path / "one",
        encryption=Encryption(key_env="STATE_KEY"),
    )
    with only_variables(server.variables(kind) | {"STATE_KEY": key}):
        one = open_store(location, environ=os.environ)
        other = open_store(location._replace(cache_folder=tmp_path / "other"), environ=os.environ)
        assert other.record("qa-jane") is None
        empty = other.stamp()
        put(one, JANE)
        assert other.stamp() != empty
        assert other.record("qa-jane") == one.record("qa-jane") is not None
        with one.lock(US):
            assert other.locked() is not None
        plain = open_store(
            location._replace(cache_folder=tmp_path / "third", encryption=None), environ=os.environ
        )
        with pytest.raises(StateRefused, match="encrypted with a key, and none is given"):
            plain.record("qa-jane")
        for store in (one, other, plain):
            store.close()
    assert not any(b"jane" in stored.data for stored in server.cloud.objects.values())


def test_a_server_that_keeps_no_lock_is_refused_before_anything_is_written(
    server: ObjectServer, tmp_path: Path
) -> None:
    location = StateLocation(
        url_for("s3", f"pretender/{tmp_path.name}"), "test", tmp_path, endpoint=server.endpoint
    )
    for fault in ("ignores_creation", "ignores_match", "never_matches", "knows_no_conditions"):
        with only_variables(server.variables("s3")), server.faults(**{fault: True}):
            store = open_store(location, environ=os.environ)
            with pytest.raises(StateRefused, match="cannot keep a lock"), store.lock(US):
                pass
            store.close()


def test_who_may_only_read_plans_and_takes_no_lock(server: ObjectServer, tmp_path: Path) -> None:
    location = StateLocation(url_for("s3", f"reader/{tmp_path.name}"), "test", tmp_path / "one")
    with only_variables(server.variables("s3")):
        put(open_store(location, environ=os.environ), JANE)
        reader = open_store(location._replace(cache_folder=tmp_path / "other"), environ=os.environ)
        with server.faults(read_only=True):
            assert reader.record("qa-jane") is not None
            assert reader.stamp() is not None
            with pytest.raises(ReconcileError, match="may not write"), reader.lock(US):
                pass


def test_after_two_compactions_under_a_new_key_the_former_one_is_not_needed(
    opened: Opener,
) -> None:
    former, new = (os.urandom(KEY_BYTES) for _ in range(2))

    def store(*keys: bytes) -> ObjectStore:
        sealer = ObjectSealer(keys[0], older=keys[1:])
        bucket = opened(prefix="rotation/state")
        return ObjectStore(bucket, sealer, environment="test", compact_after=2)

    put(store(former), JANE)
    with pytest.raises(StateRefused, match="a key that is not given"):
        store(new).record("qa-jane")
    for number in range(3):
        put(store(new, former), JANE._replace(labels=(str(number),)))
    record = store(new).record("qa-jane")
    assert record is not None
    assert record.labels == ("2",)
    put(store(new), ZOE)
    with pytest.raises(StateRefused, match="a key that is not given"):
        store(former).record("qa-jane")
