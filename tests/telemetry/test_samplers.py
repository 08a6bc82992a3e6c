"""The samplers and id generators that variables name; tests/config/test_effects.py sees what they do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opentelemetry.sdk.trace.sampling import Decision

from torchelastic_otel._config import sdk_variables as v
from torchelastic_otel._config.kinds import Component
from torchelastic_otel._telemetry.sdk_objects import id_generator_from_env, sampler_from_env


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
    warnings: list[str] = []
    environ = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    made = sampler_from_env(environ, warnings.append)
    assert made.should_sample(None, 1, "hello").decision is Decision.RECORD_AND_SAMPLE
    [warning] = warnings
    assert warning.startswith(blamed)
    assert warning.endswith(" is used.")


@pytest.mark.parametrize(("name", "count"), [("", 0), ("Random", 0), ("xray", 1)])
def test_no_id_generator_of_its_own_leaves_the_ids_to_the_bridge(name: str, count: int) -> None:
    """A wrong one as well, after a warning."""
    warnings: list[str] = []
    assert id_generator_from_env({"OTEL_PYTHON_ID_GENERATOR": name}, warnings.append) is None
    assert len(warnings) == count
