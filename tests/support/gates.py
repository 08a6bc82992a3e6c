"""Hold back processes of a job until all of them are there, or until the test lets them go."""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid


class Gate:
    """Holds back the workers of an attempt until all are there.

    Args:
        count: number of workers.
    """

    def __init__(self, count: int) -> None:
        self.name = f"torchrun-gate-{uuid.uuid4().hex}"
        self._changed = threading.Condition()
        self._opened = 0
        self._count = count
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("\0" + self.name)
        self._listener.listen()
        threading.Thread(target=self._serve, name="gate", daemon=True).start()

    def _serve(self) -> None:
        while True:
            waiting = []
            for _ in range(self._count):
                try:
                    waiting.append(self._listener.accept()[0])
                except OSError:
                    return
            for worker in waiting:
                with contextlib.suppress(OSError):
                    worker.sendall(str(self._opened).encode())
                worker.close()
            with self._changed:
                self._opened += 1
                self._changed.notify_all()

    def wait(self, attempt: int, timeout_s: float) -> bool:
        """Wait until all workers of an attempt, from 0, have gone through; False if they did not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._opened > attempt, timeout_s)

    def close(self) -> None:
        """Let nobody in any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Lever:
    """Holds back processes until it is pulled, once for all; and hears what they say."""

    def __init__(self) -> None:
        self.name = f"torchrun-lever-{uuid.uuid4().hex}"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind("\0" + self.name)
        self._socket.listen(64)

    def pull(self) -> None:
        """Let go whoever waits, and whoever comes later."""
        self._socket.close()

    def hear(self, timeout_s: float) -> str:
        """Wait for a process that says something to the test."""
        self._socket.settimeout(timeout_s)
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(timeout_s)
            return connection.recv(64).decode()
