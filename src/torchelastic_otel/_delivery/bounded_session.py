"""A session of ``requests`` whose answers have one deadline for all of their bytes.

Its own time-out is for each read: a server that sends a byte now and then could hold a request for hours.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._runtime.imports import importing

if TYPE_CHECKING:
    import requests


class _UntilDeadline(io.RawIOBase):
    """What is read from a connection until ``left_s`` is over."""

    def __init__(self, connection: socket.socket, left_s: Callable[[], float]) -> None:
        self._connection = connection
        self._read = connection.makefile("rb", buffering=0)
        self._left_s = left_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # a writable buffer, for which 3.10 has no name
        left_s = self._left_s()
        if left_s <= 0:
            raise TimeoutError("the answer took too long")
        self._connection.settimeout(left_s)
        return self._read.readinto(buffer)

    def close(self) -> None:
        self._read.close()
        super().close()


class _Connection:
    """A connection whose bytes ``http.client.HTTPResponse`` reads until a deadline."""

    def __init__(self, connection: socket.socket, left_s: Callable[[], float]) -> None:
        self._connection = connection
        self._left_s = left_s

    def makefile(self, *_args: object, **_kwargs: object) -> io.BufferedReader:
        return io.BufferedReader(_UntilDeadline(self._connection, self._left_s))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class Deadline:
    """When the request under way has to be over; for one thread at a time."""

    def __init__(self) -> None:
        self._until = float("inf")

    def set(self, timeout_s: float) -> None:
        """Let it be over in so many seconds."""
        self._until = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Return the time that is left, in seconds."""
        return self._until - time.monotonic()


def bounded_session(deadline: Deadline) -> requests.Session:
    """Return a session that reads no answer beyond ``deadline``."""
    with importing:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.connection import HTTPConnection, HTTPSConnection
        from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:  # as http.client does
            super().__init__(_Connection(sock, deadline.left_s), *args, **kwargs)  # type: ignore[arg-type]  # it has all that a socket has

    class Plain(HTTPConnection):
        response_class = Response

    class Encrypted(HTTPSConnection):
        response_class = Response

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self._use_pools(self.poolmanager)

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            manager = super().proxy_manager_for(*args, **kwargs)
            self._use_pools(manager)
            return manager

        def _use_pools(self, manager: Any) -> None:
            manager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}

    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    return session
