"""A TCP relay on loopback that cuts connections, so that requests or answers are lost."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from enum import Enum


class Cut(Enum):
    """When a connection is cut: before a message reaches the server, or after it did, so that the answer is
    lost."""

    BEFORE = "before"
    AFTER = "after"


class Relay:
    """Relays connections to a port. ``decide`` is asked for each message from a client whether to cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.decide: Callable[[], Cut | None] = lambda: None
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_next(self, cut: Cut) -> None:
        """Cuts at the next message from a client, and not again."""
        pending = [cut]
        self.decide = lambda: pending.pop() if pending else None

    def close(self) -> None:
        # close() alone does not wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=_copy, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 18):
                cut = self.decide()
                if cut is Cut.AFTER:
                    # The client hears no answer. The server gets the message and an orderly end.
                    self.cuts += 1
                    _reset(client)
                    server.sendall(data)
                    server.shutdown(socket.SHUT_WR)
                    return
                if cut is Cut.BEFORE:
                    self.cuts += 1
                    _reset(client)
                    break
                server.sendall(data)
        for each in (client, server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 18):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    """Ends a connection for both directions at once."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
