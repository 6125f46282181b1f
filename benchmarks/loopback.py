"""A server that answers every request at once, or after a while, with the profile it was asked for.

It judges nothing, so that what is measured is the client. ``python -m benchmarks.loopback [SECONDS]``
prints its address; ``GET /arrivals`` gives the times at which requests arrived, and forgets them.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from functools import partial

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Request-Id: 758f01dfd9e74ccfbabb4934241c4966\r\nContent-Length: %d\r\n\r\n"
)
CUSTOMER = re.compile(rb"\r\nadapty-customer-user-id: ([^\r]*)\r\n", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


def answer(customer: str, body: bytes) -> bytes:
    attributes = json.loads(body).get("custom_attributes", []) if body else []
    profile = {
        "app_id": "14c3d623-2f3a-455a-aa86-ef83dff6913b",
        "profile_id": "3286abd3-48b0-4e9c-a5f6-ac0a006804a6",
        "customer_user_id": customer,
        "total_revenue_usd": 0.0,
        "segment_hash": "8f45947bad31ab0c",
        "timestamp": time.time_ns() // 1_000_000,
        "custom_attributes": attributes,
        "access_levels": [],
        "subscriptions": [],
        "non_subscriptions": [],
    }
    content = json.dumps({"data": profile}).encode()
    return HEAD % len(content) + content


class Connection(asyncio.Protocol):
    def __init__(self, delay: float, arrivals: list[float]) -> None:
        self.delay = delay
        self.arrivals = arrivals
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        arrived = time.monotonic()
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[: end + 2]
            length = LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self.data) < whole:
                return
            body, self.data = self.data[end + 4 : whole], self.data[whole:]
            if head.startswith(b"GET /arrivals "):
                content = json.dumps(self.arrivals).encode()
                self.arrivals.clear()
                self.transport.write(HEAD % len(content) + content)
                continue
            self.arrivals.append(arrived)
            customer = CUSTOMER.search(head)
            reply = answer(customer[1].decode() if customer else "", body)
            if self.delay:
                later = partial(self.write, reply)
                asyncio.get_running_loop().call_later(self.delay, later)
            else:
                self.transport.write(reply)

    def write(self, reply: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(reply)


async def serve(delay: float) -> None:
    arrivals: list[float] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(delay, arrivals), "127.0.0.1", 0, backlog=1024
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
