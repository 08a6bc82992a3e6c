"""What the bridge gets wrong stays with the bridge; what a program's signal handlers raise passes through."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from tests.support.fresh_python import run
from tests.support.said import Said
from torchelastic_otel._intake.recording import submit_event
from torchelastic_otel._runtime import guard
from torchelastic_otel._runtime.guard import from_signal_handler, guarded, note_internal_error, say_once


class HostsError(Exception):
    """What a program's signal handler raises."""


@pytest.fixture
def usr1() -> Iterator[Callable[[Any], None]]:
    """Give a function that sets a handler for SIGUSR1; the one before is put back."""
    before = signal.getsignal(signal.SIGUSR1)

    def install(handler: Any) -> None:
        signal.signal(signal.SIGUSR1, handler)

    yield install
    signal.signal(signal.SIGUSR1, before)


def hosts_handler(number: int, frame: FrameType | None) -> None:
    """Raise, as torch's own handler does."""
    raise HostsError


class Host:
    """A program whose handler is a method."""

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise."""
        self.stop()

    def stop(self) -> None:
        """Raise, a call deeper."""
        raise HostsError


@pytest.mark.parametrize("handler", [hosts_handler, Host().handle], ids=["function", "method"])
def test_signal_that_becomes_an_exception_passes_through(
    usr1: Callable[[Any], None], handler: Any, said: Said
) -> None:
    """A job that was told to stop stops, wherever in the bridge's code that reaches it."""
    usr1(handler)

    def bridges_own() -> None:
        signal.raise_signal(signal.SIGUSR1)

    with pytest.raises(HostsError):
        guarded(bridges_own)
    assert said.texts == []


def test_signal_during_submit_passes_through(usr1: Callable[[Any], None]) -> None:
    """Through the functions that a program calls, too: here while its metadata is read."""
    usr1(hosts_handler)

    class Interrupting:
        def __str__(self) -> str:
            signal.raise_signal(signal.SIGUSR1)
            return "unreached"

    class Interrupted:
        name = "e"
        source = "AGENT"
        timestamp = 0

        @property
        def metadata(self) -> dict[str, object]:
            signal.raise_signal(signal.SIGUSR1)
            return {}

    with pytest.raises(HostsError):
        submit_event(Interrupted())


@pytest.mark.internal_errors("bridges_own: ValueError")
def test_exception_that_somebody_knows_as_the_hosts_passes_through(said: Said) -> None:
    """Its handler may be gone by then: who knows the host says what is its own, and nothing else passes."""

    class ToldError(Exception):
        pass

    guard.let_pass(lambda error: isinstance(error, ToldError))

    def bridges_own(kind: type[Exception]) -> None:
        raise kind

    with pytest.raises(ToldError):
        guarded(bridges_own, ToldError)
    guarded(bridges_own, ValueError)
    assert len(said.texts) == 1


def test_torchs_signal_exception_passes_through_in_a_process_that_just_began() -> None:
    """No hook has run yet and torch is not even imported: the package's import is enough."""
    script = """
        from torchelastic_otel._runtime.guard import guarded

        class SignalException(Exception):
            pass

        def bridges_own():
            raise SignalException("SIGTERM")

        try:
            guarded(bridges_own)
        except SignalException:
            print("passed")
    """
    assert run(script).stdout == "passed\n"


def test_torchs_signal_exception_passes_through_by_its_name() -> None:
    """Its handler may be gone by then: torch puts the old ones back."""
    signal_exception = type("SignalException", (Exception,), {})

    def bridges_own() -> None:
        raise signal_exception

    with pytest.raises(signal_exception):
        guarded(bridges_own)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_error_passes_through(error: type[BaseException]) -> None:
    """Ctrl-C and exits are nobody's to hold back."""

    def bridges_own() -> None:
        raise error

    with pytest.raises(error):
        guarded(bridges_own)


@pytest.mark.internal_errors("bridges_own: ValueError: wrong", "bridges_own: KeyError: 'wrong'")
def test_own_errors_stay_here(usr1: Callable[[Any], None], said: Said) -> None:
    """They are said once per place and kind, with the promise that the job goes on."""
    usr1(hosts_handler)

    def bridges_own(kind: type[Exception]) -> None:
        raise kind("wrong")

    for kind in (ValueError, ValueError, KeyError):
        guarded(bridges_own, kind)
    assert len(said.texts) == 2
    assert "bridges_own: ValueError: wrong" in said.texts[0]
    assert "The job is not affected" in said.texts[0]
    assert "KeyError" in said.texts[1]


@pytest.mark.internal_errors("bridges_own: ValueError: wrong")
def test_own_error_after_a_handled_signal_stays_here(usr1: Callable[[Any], None], said: Said) -> None:
    """The signal's exception was caught by whoever expected it; what went wrong later is not the host's."""
    usr1(hosts_handler)

    def bridges_own() -> None:
        try:
            signal.raise_signal(signal.SIGUSR1)
        except HostsError:
            raise ValueError("wrong") from None

    guarded(bridges_own)
    assert len(said.texts) == 1


def test_other_threads_have_no_signals() -> None:
    """Python runs handlers in the main thread alone, so elsewhere every error is the bridge's."""
    found: list[bool] = []

    def elsewhere() -> None:
        try:
            raise type("SignalException", (Exception,), {})
        except Exception as error:
            found.append(from_signal_handler(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [False]


def test_arguments_are_passed_on() -> None:
    """What is guarded is called as it would be."""
    got: list[object] = []
    guarded(lambda *args, **kwargs: got.append((args, kwargs)), 1, two=2)
    assert got == [((1,), {"two": 2})]


def test_said_once(said: Said) -> None:
    """One message per kind, however often and with whatever words."""
    for text in ("first", "second"):
        say_once("kind", text)
    say_once("other", "third")
    assert said.texts == ["first", "third"]


@pytest.mark.internal_errors(r"place \d+: ValueError")
def test_what_was_said_is_bounded(said: Said) -> None:
    """A program whose errors all differ fills neither the log nor the memory."""
    for number in range(5000):
        note_internal_error(f"place {number}", ValueError())
    assert len(said.texts) == len(guard._said) < 1000
