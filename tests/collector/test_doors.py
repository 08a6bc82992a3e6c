"""What collectors say to senders: later with a full queue, no without a token, yes to what goes nowhere."""

from __future__ import annotations

import uuid
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otlp_receiver import OtlpReceiver
from tests.support.backends import CONFIGS, collector
from tests.support.harness import free_port
from tests.support.otlp_requests import TOKEN, certificates, log_request, post

pytestmark = pytest.mark.e2e


def test_a_full_queue_asks_senders_to_come_again(tmp_path: Path) -> None:
    """503 and UNAVAILABLE until there is room; what was accepted arrives, what was refused is taken later."""
    port = free_port()
    environ = {
        "RETRY_MAX_INTERVAL": "1s",
        "VENDOR_ENDPOINT": f"http://127.0.0.1:{port}",
        "QUEUE_BYTES": "20000",
    }
    configs = [CONFIGS / "agent.yaml", CONFIGS / "to-vendor.yaml"]
    with collector(configs, tmp_path / "agent", environ) as agent:
        accepted: list[str] = []
        while True:
            uid = str(uuid.uuid4())
            status = post(agent.http_endpoint, log_request("x" * 1000, texts={"uid": uid}))
            if status != 200:
                break
            accepted.append(uid)
            assert len(accepted) < 100, "the queue is never full"
        assert status == 503
        assert len(accepted) > 5
        with grpc.insecure_channel(agent.grpc_endpoint.removeprefix("http://")) as channel:
            export = channel.unary_unary(
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
                request_serializer=lambda request: request.SerializeToString(),
            )
            with pytest.raises(grpc.RpcError) as refused:
                export(log_request("x" * 1000, texts={"uid": uid}))
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        with OtlpReceiver(http_port=port) as vendor:
            assert vendor.wait(lambda found: len(found.logs) >= len(accepted), 30)
            assert post(agent.http_endpoint, log_request("again", texts={"uid": uid})) == 200
            assert vendor.wait(lambda found: len(found.logs) > len(accepted), 30)
            assert {record.attributes["uid"] for record in vendor.logs} == {*accepted, uid}


def test_a_gateway_takes_nothing_from_who_has_no_token(tmp_path: Path) -> None:
    """No token and a wrong one are refused, and TLS is all that it speaks."""
    secrets = certificates(tmp_path / "tls")
    cafile = secrets["GATEWAY_CA_FILE"]
    with collector([CONFIGS / "gateway.yaml"], tmp_path / "gateway", secrets, tls=True) as gateway:
        url, request = gateway.http_endpoint, log_request("hello")
        assert post(url, request, cafile) == 401
        assert post(url, request, cafile, Authorization="Bearer wrong") == 401
        assert post(url, request, cafile, Authorization=f"Bearer {TOKEN}") == 200
        assert post(url.replace("https", "http"), request, Authorization=f"Bearer {TOKEN}") == 400


def test_a_signal_that_no_destination_takes_is_accepted(tmp_path: Path) -> None:
    """Jaeger's logs and metrics: senders are not bothered."""
    configs = [CONFIGS / "agent.yaml", CONFIGS / "to-jaeger.yaml"]
    with collector(configs, tmp_path / "agent", {"JAEGER_ENDPOINT": "127.0.0.1:9"}) as agent:
        assert post(agent.http_endpoint, log_request("hello")) == 200
        assert post(agent.http_endpoint, ExportMetricsServiceRequest()) == 200


def test_a_file_has_what_was_accepted_when_the_collector_is_killed(tmp_path: Path) -> None:
    """What to-file.yaml writes is in the file before the sender hears that it was accepted."""
    configs = [CONFIGS / "agent.yaml", CONFIGS / "to-file.yaml"]
    with collector(configs, tmp_path / "agent", {"FILE_DIR": str(tmp_path)}) as agent:
        assert post(agent.http_endpoint, log_request("the last words")) == 200
        agent.program.kill()
    assert "the last words" in (tmp_path / "logs.jsonl").read_text()
