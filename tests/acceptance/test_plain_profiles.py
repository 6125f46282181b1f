"""A profile without access levels, integration identifiers and refund preferences costs requests and bytes
as it did before these existed. The expected texts are the output of the program from before them."""

from __future__ import annotations

import json
import re
from typing import Any

from reconciler.core.plan import Plan
from reconciler.core.plan_format import to_lines
from reconciler.core.record_codec import encode_record
from tests.support.worlds import World

DEVICE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
JANE: dict[str, Any] = {
    "customer_user_id": "jane",
    "first_name": "Jane",
    "ip_country": "FR",
    "custom_attributes": {"tier": "gold"},
    "installation_meta": {"device_id": DEVICE},
}
CREATE = (
    '"revision":null,"fields":[{"path":"first_name","op":"set","before":null,"after":"Jane","basis":"none",'
    '"line":1},{"path":"ip_country","op":"set","before":null,"after":"FR","basis":"none","line":1},'
    '{"path":"custom_attributes.tier","op":"set","before":null,"after":"gold","basis":"none","line":1},'
    '{"path":"installation_meta.device_id","op":"set","before":null,"after":"DEVICE","basis":"none",'
    '"line":1}],"requests":[{"method":"PATCH","path":"/api/v2/server-side-api/profile/","headers":'
    '{"adapty-customer-user-id":"jane"},"body":{"first_name":"Jane","ip_country":"FR","custom_attributes":'
    '[{"key":"tier","value":"gold"}],"installation_meta":{"device_id":"DEVICE"}},"fallback":"POST"}]}'
)
UPDATE = (
    '"revision":3,"fields":[{"path":"first_name","op":"set","before":"Jane","after":"J","basis":"recorded",'
    '"line":1},{"path":"custom_attributes.tier","op":"clear","before":"gold","after":null,"basis":"observed",'
    '"line":null}],"requests":[{"method":"PATCH","path":"/api/v2/server-side-api/profile/","headers":'
    '{"adapty-customer-user-id":"jane"},"body":{"first_name":"J","ip_country":"FR","custom_attributes":'
    '[{"key":"tier","value":null}]}}]}'
)
RECORD = (
    '{"address": "jane", "customer_user_id": "jane", "profile_id": "ID", "presence": "present", "facts": '
    '{"custom_attributes.tier": {"known": "cleared", "observed": true}, "first_name": {"known": "value", '
    '"value": "J"}, "installation_meta.device_id": {"known": "value", "value": "DEVICE"}, "ip_country": '
    '{"known": "value", "value": "FR"}}, "source": {"file": "profiles/0.yaml", "line": 1}, "origin": '
    '"created", "created_at": 1000000.0, "timestamp": 1000000001, "revision": 5}'
)


def change_line(plan: Plan) -> str:
    """The line of the only change from its revision on; what stands before it is said in words."""
    _, line, _ = to_lines(plan)
    return line.rstrip("\n")[line.index('"revision"') :].replace(DEVICE, "DEVICE")


def test_requests_lines_and_records_of_a_plain_profile_are_what_they_were() -> None:
    world = World()
    plan = world.plan(JANE)
    assert change_line(plan) == CREATE
    world.apply(plan, JANE)
    after = {**JANE, "first_name": "J", "custom_attributes": {}}
    plan = world.plan(after)
    assert change_line(plan) == UPDATE
    world.apply(plan, after)
    (record,) = world.store.records()
    text = json.dumps(encode_record(record)).replace(DEVICE, "DEVICE")
    assert re.sub(r'"profile_id": "[^"]+"', '"profile_id": "ID"', text) == RECORD
    assert [request.method for request in world.wire.sent] == ["PATCH", "POST", "PATCH"]
    assert world.plan(after).is_empty
