"""A program that launches job after job: the series of all but the last go once they have arrived."""

from __future__ import annotations

import time

from otlp_receiver import OtlpReceiver
from tests.support.harness import otlp
from tests.support.job_player import Player, moment
from torchelastic_otel import _contract as c
from torchelastic_otel._config.settings import Settings
from torchelastic_otel._telemetry.meter import ENDED_THAT_STAY
from torchelastic_otel._telemetry.telemetry import Telemetry

JOBS = 1_000


class Launches(Player):
    """Plays jobs to a ``Telemetry`` of our own."""

    def __init__(self, telemetry: Telemetry, environ: dict[str, str]) -> None:
        super().__init__(telemetry, Settings(), environ)
        self.telemetry = telemetry

    def job(self, number: int) -> None:
        """Play a job that fails, as the bridge's thread would."""
        self.start(number, run_id=f"run-{number}")
        self.join(number)
        self.workers(number + 0.1)
        self.die(number + 0.2, {0: 1})
        self.end(number + 0.3, "FAILED")
        self.telemetry.publish()


def test_a_thousand_jobs_in_one_process(receiver: OtlpReceiver) -> None:
    """Each one's failure arrives, none is counted with others, and the requests do not grow."""
    environ = {**otlp(receiver), "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    said: list[str] = []
    telemetry = Telemetry(environ, said.append, settings=Settings(spool_dir="off"))
    telemetry.wait_loaded(time.monotonic() + 60)
    launches = Launches(telemetry, environ)
    for number in range(JOBS):
        launches.job(number)
        if number % 50 == 49:
            launches.engine.tick(moment(0))
            assert telemetry.flush(time.monotonic() + 60)
            telemetry.publish()
    assert telemetry.flush(time.monotonic() + 60)
    failures: dict[str, float] = {}
    for point in receiver.metrics:
        if point.name == c.METRIC_WORKER_FAILURES and point.value:
            failures[str(point.attributes[c.RUN_ID])] = point.value
        assert "otel.metric.overflow" not in point.attributes
    assert failures == {f"run-{number}": 1 for number in range(JOBS)}
    telemetry.publish()
    receiver.clear()
    assert telemetry.flush(time.monotonic() + 60)
    last = {f"run-{number}" for number in range(JOBS - ENDED_THAT_STAY, JOBS)}
    assert {point.attributes.get(c.RUN_ID) for point in receiver.metrics} <= {None, "run-0", *last}
    assert said == []
