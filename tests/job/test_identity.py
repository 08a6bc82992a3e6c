"""Trace identity: the ids are those that the document promises, wherever they are computed."""

from __future__ import annotations

import hashlib
import random
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.trace_ids import NAMELESS, SPAN, TRACE, documented_id
from torchelastic_otel._job.identity import (
    ParentContext,
    format_traceparent,
    hash_trace_id,
    identifies,
    identify,
    new_span_id,
    parse_traceparent,
    scheduler_job,
)

VALID = f"00-{TRACE}-{SPAN}-01"

encodable = st.text(st.characters(exclude_categories=["Cs"]))


def hashed(*parts: str) -> str:
    """Compute the id with the package."""
    return f"{hash_trace_id(*parts):032x}"


# --- the hash ---------------------------------------------------------------------------------------------


@given(encodable, encodable, encodable, encodable)
def test_id_is_the_hash_of_the_documented_bytes(run_id: str, job: str, attempt: str, seed: str) -> None:
    """The rule holds for any text, not for the table's alone."""
    assert hashed(run_id, job, attempt, seed) == documented_id(run_id, job, attempt, seed)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a", "", "b"), ("a", "b", "")),
        (("1:a,", ""), ("", "1:a,")),
        (("a", "0:,"), ("a", "", "0:,")),
        (("job", "1", ""), ("job", "1", "0")),
    ],
)
def test_parts_cannot_run_into_each_other(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """What moves from one part to the next, or looks like a netstring itself, gives another id."""
    assert hash_trace_id(*one) != hash_trace_id(*other)


def test_run_id_that_is_not_utf8_is_hashed_as_its_bytes() -> None:
    """A byte of the command line that is not UTF-8 is a surrogate in Python, and the byte in the hash."""
    data = b"torchelastic-otel/trace-id/v1" + b"2:\xff!,0:,0:,0:,"
    assert hashed("\udcff!") == hashlib.sha256(data).hexdigest()[:32]


@given(st.text(st.characters(exclude_categories=())))
@example("a lone surrogate \ud800")
def test_any_run_id_has_an_identity(run_id: str) -> None:
    """Whatever a program takes for a run id: it has a valid trace id, and nothing raises."""
    assert 0 < identify(run_id, {}).trace_id < 1 << 128


# --- schedulers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("", "")),
        ({"SLURM_JOB_ID": "4711"}, ("4711", "")),
        ({"SLURM_JOB_ID": "4711", "SLURM_RESTART_COUNT": "2"}, ("4711", "2")),
        ({"SLURM_JOB_ID": "", "SLURM_RESTART_COUNT": "2"}, ("", "")),
        ({"PBS_JOBID": "17.server"}, ("17.server", "")),
        ({"LSB_JOBID": "99"}, ("99", "")),
        ({"FLUX_JOB_ID": "ƒABC"}, ("ƒABC", "")),
        ({"AWS_BATCH_JOB_ID": "0a-1b#3", "AWS_BATCH_JOB_ATTEMPT": "1"}, ("0a-1b", "1")),
        ({"AWS_BATCH_JOB_ID": "0a-1b", "AWS_BATCH_JOB_ATTEMPT": "1"}, ("0a-1b", "1")),
        ({"AWS_BATCH_JOB_ID": "0a", "SLURM_JOB_ID": "4711", "AWS_BATCH_JOB_ATTEMPT": "1"}, ("4711", "")),
        ({"SLURM_RESTART_COUNT": "2"}, ("", "")),
    ],
)
def test_scheduler_tells_job_and_attempt(environ: dict[str, str], expected: tuple[str, str]) -> None:
    """The first scheduler whose job id is set decides on both."""
    assert scheduler_job(environ) == expected


def test_all_nodes_of_an_aws_batch_job_share_a_trace() -> None:
    """AWS Batch tells each node another job id, which differs in its suffix alone."""
    environs = [{"AWS_BATCH_JOB_ID": f"0a-1b#{node}", "AWS_BATCH_JOB_ATTEMPT": "1"} for node in range(3)]
    assert len({identify("r", environ).trace_id for environ in environs}) == 1


def test_requeued_job_has_another_trace() -> None:
    """The same run id and job, started anew by the scheduler, is another trace."""
    first = identify("r", {"SLURM_JOB_ID": "1"})
    second = identify("r", {"SLURM_JOB_ID": "1", "SLURM_RESTART_COUNT": "1"})
    assert first.trace_id != second.trace_id


def test_seed_keeps_jobs_of_one_run_id_apart() -> None:
    """The same run id twice is one trace; with a seed of its own it is another."""
    assert identify("r", {}) == identify("r", {})
    assert identify("r", {}, "monday").trace_id == int(documented_id("r", "", "", "monday"), 16)
    assert identify("r", {}, "monday").trace_id != identify("r", {}).trace_id


# --- nameless run ids -------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_id", NAMELESS)
def test_nameless_run_id_is_never_hashed_alone(run_id: str) -> None:
    """Two launchers of such a run id have two random traces, and it is known that they are random."""
    assert not identifies(run_id)
    one, other = identify(run_id, {}), identify(run_id, {})
    assert one.random
    assert other.random
    assert one.trace_id != other.trace_id


@pytest.mark.parametrize("run_id", NAMELESS)
def test_scheduler_or_seed_serves_for_a_nameless_run_id(run_id: str) -> None:
    """The job id, or the seed, is hashed with an empty run id, however the run id was spelled."""
    by_job = identify(run_id, {"SLURM_JOB_ID": "4711"})
    assert (by_job.trace_id, by_job.random) == (int(documented_id("", "4711", "", ""), 16), False)
    by_seed = identify(run_id, {}, "s")
    assert (by_seed.trace_id, by_seed.random) == (int(documented_id("", "", "", "s"), 16), False)


@pytest.mark.parametrize("run_id", ["nonesuch", "0", "null", "none-1"])
def test_other_run_ids_identify_a_job(run_id: str) -> None:
    """Only torch's own placeholder is nameless."""
    assert identify(run_id, {}).trace_id == int(documented_id(run_id, "", "", ""), 16)
    assert not identify(run_id, {}).random


# --- TRACEPARENT ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (VALID, 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 1),
        (f"00-{TRACE}-{SPAN}-fe", 0),
        (f" {VALID}\n", 1),
        (f"01-{TRACE}-{SPAN}-01", 1),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", 1),
    ],
)
def test_valid_traceparent_wins(text: str, flags: int) -> None:
    """Its trace is the job's, its span the parent; run id, scheduler and seed have no say."""
    identity = identify("run", {"TRACEPARENT": text, "SLURM_JOB_ID": "4711"}, "seed")
    assert identity.trace_id == int(TRACE, 16)
    assert identity.parent == ParentContext(int(TRACE, 16), int(SPAN, 16), flags)
    assert not identity.random


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
        f"00-{TRACE[:-1]} -{SPAN}-01",
        f"00-0x{TRACE[2:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\nTRACEPARENT={VALID}",
        f"01-{TRACE}-{SPAN}-01-\nmore",
        f"{VALID},{VALID}",
        "00-" + "a" * 1_000_000,
        "-" * 1_000_000,
        "\udcff" + VALID,
    ],
    ids=lambda text: ascii(text[:60]),
)
def test_invalid_traceparent_counts_as_unset(text: str) -> None:
    """Neither a wrong nor a malicious value has an effect, or raises."""
    assert parse_traceparent(text) is None
    assert identify("run", {"TRACEPARENT": text}) == identify("run", {})


@given(st.text(max_size=80))
def test_any_traceparent_is_read_without_an_error(text: str) -> None:
    """What is accepted has the form of the W3C header."""
    found = parse_traceparent(text)
    assert found is None or re.match(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", text.strip())


@given(
    st.integers(1, (1 << 128) - 1),
    st.integers(1, (1 << 64) - 1),
    st.sampled_from([0, 1]),
)
def test_formatted_traceparent_is_read_back(trace_id: int, span_id: int, flags: int) -> None:
    """What workers are given says what it was made of."""
    text = format_traceparent(trace_id, span_id, flags)
    assert parse_traceparent(text) == ParentContext(trace_id, span_id, flags)


# --- span ids ---------------------------------------------------------------------------------------------


def test_span_ids_do_not_follow_the_programs_seed() -> None:
    """Training scripts seed ``random`` with the same value on every rank; ids differ all the same."""
    state = random.getstate()
    try:
        random.seed(0)
        before = random.getstate()
        first = [new_span_id() for _ in range(10)]
        assert random.getstate() == before
        random.seed(0)
        assert not set(first) & {new_span_id() for _ in range(10)}
    finally:
        random.setstate(state)
