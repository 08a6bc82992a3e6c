"""Which spans are sent, and with which ids: the SDK's objects that variables name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from opentelemetry.sdk.trace import TracerProvider

from torchelastic_otel._config import sdk_variables as v
from torchelastic_otel._config.kinds import Component
from torchelastic_otel._telemetry.sdk_objects import id_generator_from_env, sampler_from_env


def sampled(environ: Mapping[str, str], *, count: int = 20) -> tuple[int, list[str]]:
    """Return how many of so many traces are sampled, and what was warned of."""
    warnings: list[str] = []
    provider = TracerProvider(sampler=sampler_from_env(environ, warnings.append), shutdown_on_exit=False)
    spans = [provider.get_tracer("test").start_span("hello") for _ in range(count)]
    provider.shutdown()
    return sum(span.get_span_context().trace_flags.sampled for span in spans), warnings


@pytest.mark.parametrize(
    ("sampler", "argument", "sent"),
    [
        ("", "", 20),
        ("parentbased_always_on", "", 20),
        ("always_on", "", 20),
        ("always_off", "", 0),
        ("parentbased_always_off", "", 0),
        ("traceidratio", "", 20),
        ("traceidratio", "1.0", 20),
        ("traceidratio", "0", 0),
        ("parentbased_traceidratio", "0.0", 0),
    ],
)
def test_the_sampler_decides_which_spans_are_sent(sampler: str, argument: str, sent: int) -> None:
    """OTEL_TRACES_SAMPLER and its argument."""
    environ = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert sampled(environ) == (sent, [])


def test_every_sampler_that_is_built_in_can_be_made() -> None:
    """Without asking what is installed."""
    kind = v.TRACES_SAMPLER.kind
    assert isinstance(kind, Component)
    made = {name: sampler_from_env({v.TRACES_SAMPLER.name: name}, pytest.fail) for name in kind.built_in}
    assert len({sampler.get_description() for sampler in made.values()}) == len(kind.built_in)


VENDOR_SAMPLER = """
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased

    def make(argument):
        return TraceIdRatioBased(float(argument))

    def no_sampler(argument):
        return 1
    """
VENDOR_POINTS = """
    [opentelemetry_traces_sampler]
    vendor = vendor_stuff:make
    vendor_wrong = vendor_stuff:no_sampler
    """


def test_a_third_partys_sampler_gets_the_argument(third_party: Callable[[str, str], None]) -> None:
    """Entry points of the group opentelemetry_traces_sampler are samplers like any other."""
    third_party(VENDOR_POINTS, VENDOR_SAMPLER)
    assert sampled({"OTEL_TRACES_SAMPLER": "vendor", "OTEL_TRACES_SAMPLER_ARG": "0.0"}) == (0, [])


@pytest.mark.parametrize(
    ("sampler", "argument", "blamed"),
    [
        ("sometimes", "", "OTEL_TRACES_SAMPLER='sometimes' is not accepted"),
        ("traceidratio", "half", "OTEL_TRACES_SAMPLER_ARG='half' is not accepted"),
        ("parentbased_traceidratio", "nan", "OTEL_TRACES_SAMPLER_ARG='nan' is not accepted"),
        ("vendor", "x", "OTEL_TRACES_SAMPLER='vendor' cannot be used (ValueError: "),
        ("vendor_wrong", "", "OTEL_TRACES_SAMPLER='vendor_wrong' cannot be used (it is no Sampler); "),
    ],
)
def test_a_wrong_sampler_is_one_warning_and_everything_is_sampled(
    third_party: Callable[[str, str], None], sampler: str, argument: str, blamed: str
) -> None:
    """No telemetry is lost over a typing error."""
    third_party(VENDOR_POINTS, VENDOR_SAMPLER)
    count, [warning] = sampled({"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument})
    assert count == 20
    assert warning.startswith(blamed)
    assert warning.endswith(" is used.")


VENDOR_IDS = """
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class Ids(IdGenerator):
        def generate_span_id(self): return 0xABC
        def generate_trace_id(self): return 0xDEF
    """


def test_a_third_partys_id_generator_makes_the_ids(third_party: Callable[[str, str], None]) -> None:
    """Entry points of the group opentelemetry_id_generator."""
    third_party("[opentelemetry_id_generator]\nvendor = vendor_stuff:Ids", VENDOR_IDS)
    generator = id_generator_from_env({"OTEL_PYTHON_ID_GENERATOR": "vendor"}, pytest.fail)
    assert generator is not None
    assert (generator.generate_trace_id(), generator.generate_span_id()) == (0xDEF, 0xABC)


@pytest.mark.parametrize(("name", "count"), [("", 0), ("Random", 0), ("xray", 1)])
def test_no_id_generator_of_its_own_leaves_the_ids_to_the_bridge(name: str, count: int) -> None:
    """A wrong one as well, after a warning."""
    warnings: list[str] = []
    assert id_generator_from_env({"OTEL_PYTHON_ID_GENERATOR": name}, warnings.append) is None
    assert len(warnings) == count
