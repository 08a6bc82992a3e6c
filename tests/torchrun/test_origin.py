"""Who sends, as whom, and how: resource, scope, protocol (contract, section 1)."""

from __future__ import annotations

import socket
from importlib.metadata import version

import pytest

from tests.support.scenarios.running import Run, every, only, where

pytestmark = pytest.mark.e2e


@every
def test_everything_comes_from_the_bridges_scope(run: Run) -> None:
    """The instrumentation scope is the package with its version."""
    scopes = {(item.scope_name, item.scope_version) for item in run.sent}
    assert scopes == {("torchelastic_otel", version("torchelastic-otel"))}


@where(lambda found: not found.users_resource)
def test_the_resource_tells_the_launcher_processes_apart(run: Run) -> None:
    """Service, host and process are told, and an instance id of each process."""
    instances: dict[int, set[str]] = {}
    for item in run.sent:
        resource = item.resource
        assert resource["service.name"] == "torchelastic"
        assert resource["host.name"] == socket.gethostname()
        instances.setdefault(resource["process.pid"], set()).add(resource["service.instance.id"])
    assert run.launchers <= set(instances)
    assert all(len(ids) == 1 for ids in instances.values())
    assert len(set.union(*instances.values())) == len(instances)


@where(lambda found: found.own_events == ())
def test_only_launchers_export(run: Run) -> None:
    """Workers that record nothing send nothing, and have no agent span of their own."""
    pids = {item.resource["process.pid"] for item in run.sent}
    assert pids == run.launchers


@every
def test_everything_is_sent_by_the_protocol_that_was_asked_for(run: Run) -> None:
    """All requests are accepted, and use the chosen protocol."""
    assert {request.signal for request in run.requests} >= {"logs", "traces"}
    assert all(request.accepted for request in run.requests)
    expected = "http/protobuf" if run.scenario.collector else run.scenario.protocol
    assert {request.protocol for request in run.requests} == {expected}


@only("opentelemetry-instrument, no flag")
def test_instrumented_providers_are_the_programs(run: Run) -> None:
    """Under opentelemetry-instrument the providers that it has set up are used: the resource is theirs."""
    for item in run.sent:
        assert item.resource["service.name"] == "the program's own"
        assert item.resource["telemetry.auto.version"] == version("opentelemetry-instrumentation")
