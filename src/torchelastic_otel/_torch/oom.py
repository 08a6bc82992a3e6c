"""What the kernel knows beside torch: out-of-memory kills in this process's cgroup."""

from __future__ import annotations

from pathlib import Path


def oom_kill_count(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return how many processes of this cgroup the kernel has killed for memory; None if it does not count.

    Cgroup v2: ``memory.events``, ``oom_kill``; v1: ``memory.oom_control``, ``oom_kill`` (the kernel's
    documentation, admin-guide/cgroup-v2 and cgroup-v1/memory).
    """
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        relative = path.lstrip("/")
        if not controllers:
            candidates = [root / relative / "memory.events", root / "memory.events"]
        elif "memory" in controllers.split(","):
            candidates = [
                root / "memory" / relative / "memory.oom_control",
                root / "memory" / "memory.oom_control",
            ]
        else:
            continue
        for candidate in candidates:
            count = _field(candidate, "oom_kill")
            if count is not None:
                return count
    return None


def _field(path: Path, name: str) -> int | None:
    try:
        text = path.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return None
