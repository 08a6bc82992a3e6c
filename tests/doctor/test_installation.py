"""The doctor finds what is wrong on the node: torch, the registration, the spool."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from otlp_receiver import OtlpReceiver
from tests.support.doctor import Doctor, to
from torchelastic_otel._delivery.spool import Spool

# --- torch ----------------------------------------------------------------------------------------


def packages_without(folder: Path, *names: str) -> Path:
    """Return a folder with all that is installed but the distributions ``names``."""
    made = folder / "packages"
    made.mkdir()
    for root in {Path(str(found.locate_file(""))) for found in importlib.metadata.distributions()}:
        if root.name != "site-packages":
            continue
        for each in root.iterdir():
            if not each.name.startswith(tuple(f"{name}-" for name in names)):
                (made / each.name).symlink_to(each)
    return made


def installed(folder: Path, name: str, version: str, entry_points: str = "") -> Path:
    """Return a folder with the metadata of a distribution."""
    made = folder / f"{name}-{version}"
    metadata = made / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    return made


def test_torch_and_the_registration_are_found(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Both by metadata: torch itself is not imported."""
    torch = installed(doctor.folder, "torch", "2.8.0+cu128")
    points = "[torchrun.handlers]\notel = torchelastic_otel._torch.entry:register\n"
    ours = installed(doctor.folder, "torchelastic_otel", "1", points)
    found = doctor(to(receiver.http_endpoint), path=(torch, ours))
    assert found.code == 0
    assert found.check("torch") == ("ok", "torch 2.8.0+cu128.", "")
    assert found.check("registration")[0] == "ok"


def test_a_torch_that_is_too_old(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """It has no event destinations to add to."""
    torch = installed(doctor.folder, "torch", "2.7.1")
    found = doctor(to(receiver.http_endpoint), path=(torch,))
    assert found.code == 1
    assert found.check("torch") == ("problem", "torch 2.7.1 is too old.", "Install torch 2.8 or newer.")


def test_no_torch_and_no_registration(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """As in a Python that is not the one of torchrun."""
    packages = packages_without(doctor.folder, "torch", "torchelastic_otel")
    found = doctor(to(receiver.http_endpoint), python=("-S",), path=(packages,))
    assert found.code == 1
    assert found.says("torch", "problem", "torch is not installed in this Python", "that torchrun uses")
    assert found.says(
        "registration", "problem", "otel is not known to torchrun", "pip install torchelastic-otel"
    )
    assert found.check("logs")[0] == "ok"


# --- the spool ------------------------------------------------------------------------------------


def test_a_spool_that_can_be_used_is_not_made(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """The doctor may be another user than the jobs, who could not use it then."""
    found = doctor(to(receiver.http_endpoint))
    assert found.check("spool")[0] == "ok"
    assert not doctor.spool.exists()


def test_a_spool_that_is_off(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """What that costs is said."""
    found = doctor({**to(receiver.http_endpoint), "TORCHELASTIC_OTEL_SPOOL_DIR": "off"})
    assert found.code == 0
    assert found.says("spool", "off", "what is not delivered when a process ends is lost")


def test_a_spool_that_cannot_be_made(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """Telemetry arrives without, so it is a warning."""
    (doctor.folder / "file").touch()
    directory = doctor.folder / "file" / "spool"
    found = doctor({**to(receiver.http_endpoint), "TORCHELASTIC_OTEL_SPOOL_DIR": str(directory)})
    assert found.code == 0
    assert found.says("spool", "warning", "is no directory", "Name another in TORCHELASTIC_OTEL_SPOOL_DIR.")


@pytest.mark.parametrize("what", ["written by others", "is a symbolic link", "belongs to user 65534"])
def test_a_spool_that_is_not_ours_alone(doctor: Doctor, receiver: OtlpReceiver, what: str) -> None:
    """Jobs would not use it."""
    directory = doctor.folder / "spool"
    if what == "is a symbolic link":
        directory.symlink_to(doctor.folder)
    else:
        directory.mkdir(mode=0o700)
    if what == "written by others":
        directory.chmod(0o777)
    if what == "belongs to user 65534":
        if os.geteuid() != 0:
            pytest.skip("only root can give a directory away")
        os.chown(directory, 65534, -1)
    found = doctor({**to(receiver.http_endpoint), "TORCHELASTIC_OTEL_SPOOL_DIR": str(directory)})
    assert found.code == 0
    assert found.says("spool", "warning", what)


def test_a_spool_that_cannot_be_written_to(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """As on a read-only file system, which stops root as well."""
    read_only = next(
        (path for path in map(Path, ("/proc/sys", "/sys/kernel")) if not os.access(path, os.W_OK)), None
    )
    if read_only is None:
        if os.geteuid() == 0:
            pytest.skip("root can write everywhere here")
        read_only = doctor.folder / "read-only"
        read_only.mkdir(mode=0o500)
    found = doctor({**to(receiver.http_endpoint), "TORCHELASTIC_OTEL_SPOOL_DIR": str(read_only / "spool")})
    assert found.code == 0
    assert found.says("spool", "warning", "cannot be written to")


def test_what_earlier_jobs_left_is_counted_and_stays(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """How much, and how to send it; the doctor itself sends none of it."""
    header = ResourceLogs(scope_logs=[ScopeLogs()]).SerializeToString()
    payload = LogRecord(time_unix_nano=1).SerializeToString()
    spool = Spool.create(doctor.spool, 1 << 20, {})
    spool.add("logs", spool.scope("logs", header), [payload] * 3, last_ns=1)
    spool.keep_open_span("a", 1, b"")
    spool.close()
    for _ in range(2):
        found = doctor(to(receiver.http_endpoint))
        assert found.code == 0
        message = f"3 log records and 1 spans of earlier jobs wait in {doctor.spool}."
        assert found.says("spool", "warning", message, "torchelastic-otel replay")
    assert {request.items for request in receiver.requests} == {1}


def test_what_a_running_job_has_is_not_counted(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """It is on its way."""
    spool = Spool.create(doctor.spool, 1 << 20, {})
    try:
        spool.replace_metrics(b"")
        assert doctor(to(receiver.http_endpoint)).check("spool")[0] == "ok"
    finally:
        spool.discard()


def test_a_damaged_spool_is_a_warning_of_the_report(doctor: Doctor, receiver: OtlpReceiver) -> None:
    """What the package logs goes into the report, and not between its lines."""
    Spool.create(doctor.spool, 1 << 20, {}).close()
    (doctor.spool / "node-1-00000000.spool").write_bytes(b"not SQLite at all" * 100)
    found = doctor(to(receiver.http_endpoint))
    assert (found.code, found.err) == (0, "")
    assert any(".damaged" in check["message"] for check in found.checks("configuration"))


# --- the command ----------------------------------------------------------------------------------


def test_wrong_usage_is_told_apart(doctor: Doctor) -> None:
    """By the exit status 2."""
    assert doctor(arguments=("--yaml",)).code == 2
