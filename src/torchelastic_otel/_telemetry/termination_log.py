"""Kubernetes' termination log: the file whose text the status of a pod shows once its container has ended."""

from __future__ import annotations

import os

PATH = "/dev/termination-log"
"""Where the kubelet puts it, unless the pod says otherwise."""
_MOST = 4096
"""Bytes that the kubelet reads."""


def write(text: str) -> None:
    """Write ``text``, if the file is there and nobody has written into it; OSError if that fails."""
    try:
        file = os.open(PATH, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        if not os.fstat(file).st_size:
            os.write(file, text.encode("utf-8", "replace")[:_MOST])
    finally:
        os.close(file)
