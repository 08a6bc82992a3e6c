"""A wall clock that is set by an hour while a job runs, forward and back: durations stay true."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.harness import OTEL, QUICK, Harness, Script, c10d, otlp
from torchelastic_otel import _contract as c

pytestmark = pytest.mark.e2e

HOUR_NS = 3_600_000_000_000
AGENT, RENDEZVOUS = c.SPAN_AGENT, c.SPAN_RENDEZVOUS
GROUP, WORKER = c.SPAN_WORKER_GROUP, c.SPAN_WORKER

CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* By how many seconds the wall clock is set ahead, as the file says that TEST_CLOCK names. */
static long ahead(void) {
    char text[32] = {0};
    const char *path = getenv("TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    long got = read(file, text, sizeof text - 1);
    close(file);
    return got > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, clock, at);
    if (!failed && clock == CLOCK_REALTIME) at->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""

WORKER_SETS_IT = """
import os, sys
with open(os.environ["TEST_CLOCK"] + ".new", "w") as file:
    file.write(["3600", "-3600"][int(os.environ["TORCHELASTIC_RESTART_COUNT"])])
os.rename(file.name, os.environ["TEST_CLOCK"])
sys.exit(3 if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" else 0)
"""


def settable_clock(directory: Path) -> dict[str, str]:
    """Return variables of a process whose wall clock is as far ahead as a file says."""
    source, library = directory / "clock.c", directory / "clock.so"
    source.write_text(CLOCK)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return {"LD_PRELOAD": str(library), "TEST_CLOCK": str(directory / "clock")}


def test_durations_are_true_and_times_are_the_clocks(harness: Harness, receiver: OtlpReceiver) -> None:
    """The first generation sets the clock an hour forward and dies, the second sets it two hours back."""
    script = Script(harness.program("sets_it.py", WORKER_SETS_IT))
    options = [*OTEL, *QUICK, *c10d(0, "clock", nodes=1, per_node=1), "--max-restarts", "1"]
    began_ns, start_s = time.time_ns(), time.monotonic()
    agent = harness.torchrun(
        options, script, env={**otlp(receiver, "http/protobuf"), **settable_clock(harness.directory)}
    )
    assert agent.wait() == 0, agent.output
    ran_s = time.monotonic() - start_s
    assert ran_s < 1000, "an hour would prove nothing"

    spans = {name: [span for span in receiver.spans if span.name == name] for name in (AGENT, GROUP, WORKER)}
    assert [len(found) for found in spans.values()] == [1, 2, 2]
    assert all(0 <= span.end_ns - span.start_ns <= ran_s * 1e9 for span in receiver.spans)
    for span in receiver.spans:
        assert all(0 <= event.time_ns - span.start_ns <= ran_s * 1e9 for event in span.events)
    seconds = {
        c.METRIC_UPTIME,
        c.METRIC_DOWNTIME,
        c.METRIC_RENDEZVOUS_DURATION,
        c.METRIC_RESTART_DURATION,
        c.METRIC_EXIT_BARRIER_DURATION,
    }
    points = [point for point in receiver.metrics if point.name in seconds]
    assert {point.name for point in points} == seconds
    told_s = [point.value if point.sum is None else point.sum for point in points]
    assert all(each is not None and 0 <= each <= ran_s for each in told_s)
    for record in receiver.logs:
        for name in (c.RESTART_DURATION, c.EXIT_BARRIER_DURATION, c.RENDEZVOUS_WAITED):
            assert 0 <= record.attributes.get(name, 0) <= ran_s

    # Points in time are what the clock showed: at first the true time, then an hour more, then one less.
    def hours(time_ns: int) -> int:
        return round((time_ns - began_ns) / HOUR_NS)

    assert hours(spans[AGENT][0].start_ns) == 0
    assert sorted(hours(group.start_ns) for group in spans[GROUP]) == [0, 1]
    (restart,) = [record for record in receiver.logs if record.event_name == "torchelastic.restart"]
    (stop,) = [record for record in receiver.logs if record.event_name == "torchelastic.agent.stop"]
    assert (hours(restart.time_ns), hours(stop.time_ns)) == (1, -1)
