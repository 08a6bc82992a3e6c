"""What a recorder leaves behind, and what it leaves alone: real interpreters, as a launcher starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from torchelastic_otel._worker import evidence_file as file
from torchelastic_otel._worker.launching import Memories

WITHOUT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("PYTHONPATH", "PYTHONFAULTHANDLER", "PYTHONSTARTUP")
}


@dataclass(frozen=True, slots=True)
class Left:
    """How a worker ended, and what it left."""

    code: int
    out: str
    err: str
    recorder: int
    raised: tuple[int, int] | None
    type: str
    message: str
    stack: str
    thread: str
    crash: str


Run = Callable[..., Left]


@pytest.fixture
def memories() -> Iterator[Memories]:
    """The memory of a worker."""
    made = Memories([0])
    yield made
    made.close()


def memory_of(memories: Memories) -> int:
    """Return the only one's descriptor."""
    memory = memories.of(0)
    assert memory is not None
    return memory


@pytest.fixture
def run(memories: Memories) -> Run:
    """Run a program as a worker that has a recorder."""

    def start(source: str, *options: str, **environ: str) -> Left:
        env = {**WITHOUT, **environ}
        program = textwrap.dedent(source)
        done = subprocess.run(
            [sys.executable, *options, "-c", program],
            env={**env, **memories.environment(0, env)},
            capture_output=True,
            text=True,
            check=False,
        )
        memory = memory_of(memories)
        return Left(
            done.returncode,
            done.stdout,
            done.stderr,
            file.read_number(memory, file.RECORDER_PID),
            file.read_moment(memory, file.RAISED),
            file.read_text(memory, file.EXCEPTION_TYPE),
            file.read_text(memory, file.EXCEPTION_MESSAGE),
            file.read_text(memory, file.EXCEPTION_STACK),
            file.read_text(memory, file.THREAD_EXCEPTION),
            file.read_crash(memory),
        )

    return start


def plain(source: str, *options: str, **environ: str) -> tuple[int, str, str]:
    """Run the same program without a recorder."""
    command = [sys.executable, *options, "-c", textwrap.dedent(source)]
    done = subprocess.run(command, env={**WITHOUT, **environ}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


# Exceptions


def test_an_exception_is_recorded_as_python_prints_it(run: Run) -> None:
    """Type, message, traceback with its cause, and the time by both clocks; the console is the same."""
    source = """
    def load(path):
        raise KeyError(path)
    def train():
        try:
            load("shard-7")
        except KeyError as error:
            raise ValueError("loss is NaN at step 41") from error
    train()
    """
    before = (time.monotonic_ns(), time.time_ns())
    left = run(source)
    assert (left.type, left.message) == ("ValueError", "loss is NaN at step 41")
    assert left.raised is not None
    assert before[0] < left.raised[0] < time.monotonic_ns()
    assert before[1] < left.raised[1] < time.time_ns()
    assert left.stack == left.err
    assert "KeyError: 'shard-7'" in left.stack
    assert "The above exception was the direct cause" in left.stack
    assert (left.code, left.out, left.err) == plain(source)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups came with Python 3.11")
def test_notes_and_groups_are_recorded(run: Run) -> None:
    """All that Python 3.11 prints."""
    left = run(
        """
        error = ValueError("one")
        error.add_note("in shard 7")
        raise ExceptionGroup("two at once", [error, TypeError("two")])
        """
    )
    assert left.type == "ExceptionGroup"
    assert "in shard 7" in left.stack
    assert "TypeError: two" in left.stack
    assert left.stack == left.err


@pytest.mark.parametrize(
    "source",
    [
        "raise SystemExit(3)",
        "import sys; sys.exit('no such config')",
        "import os; os._exit(1)",
        "import sys\ntry:\n    1 / 0\nexcept Exception:\n    sys.excepthook(*sys.exc_info())\nsys.exit(1)",
        "import os\nif not os.fork():\n    raise ValueError('a child')\nos.wait()\nraise SystemExit(1)",
        "import os\nif not os.fork():\n    os.kill(os.getpid(), 11)\nos.wait()\nraise SystemExit(1)",
    ],
    ids=["exit code", "exit text", "_exit", "hook called by hand", "child raises", "child crashes"],
)
def test_what_ends_no_program_is_not_recorded(run: Run, source: str) -> None:
    """Exits, exceptions that were caught, and whatever a forked child dies of."""
    left = run(source)
    assert left.recorder
    assert (left.raised, left.type, left.crash) == (None, "", "")
    assert (left.code, left.out, left.err) == plain(source)


def test_an_import_error_and_a_syntax_error_are_exceptions(run: Run) -> None:
    """Also where the program never began."""
    assert run("import no_such_module").type == "ModuleNotFoundError"
    assert run("def (").type == "SyntaxError"


def test_a_hook_of_the_programs_own_stays_in_force(run: Run) -> None:
    """Ours is not put back; at the end the interpreter still knows the exception."""
    source = """
    import sys
    sys.excepthook = lambda *error: print("mine")
    raise KeyError("k")
    """
    left = run(source)
    assert (left.code, left.out, left.err) == (1, "mine\n", "")
    assert (left.type, left.message) == ("KeyError", "'k'")


def test_an_exception_of_a_thread_is_noted_apart(run: Run) -> None:
    """The program went on: it did not end of that."""
    left = run(
        """
        import threading
        thread = threading.Thread(target=lambda: 1 / 0, name="reader")
        thread.start()
        thread.join()
        """
    )
    assert (left.code, left.type) == (0, "")
    assert left.thread.startswith("Exception in thread reader:\nTraceback")
    assert left.thread.endswith("ZeroDivisionError: division by zero\n")
    assert "ZeroDivisionError" in left.err


def test_a_message_that_cannot_be_made_costs_the_message_alone(run: Run) -> None:
    """Type and time are there before anything of the program's own runs."""
    source = """
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("odd")
    raise Odd()
    """
    left = run(source)
    assert (left.type, left.message) == ("Odd", "")
    assert left.raised
    assert (left.code, left.out, left.err) == plain(source)


def test_a_long_text_keeps_its_beginning_and_its_end(run: Run) -> None:
    """Each text has its room, whatever a program raises."""
    left = run("raise ValueError('first ' + 'x' * 1_000_000 + ' last')")
    room = file.EXCEPTION_MESSAGE[1]
    assert left.message.startswith("first x")
    assert left.message.endswith("x last")
    assert "left out" in left.message
    assert len(left.message) == room - 8
    assert left.stack.endswith(" last\n")


def test_descriptors_that_a_program_closes_cost_nothing(run: Run) -> None:
    """Daemons close all that they did not open."""
    left = run("import os\nos.closerange(3, 4096)\nraise ValueError('closed')")
    assert (left.type, left.message) == ("ValueError", "closed")


# Crashes


@pytest.mark.parametrize(
    "number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL]
)
def test_a_crash_leaves_the_stacks_of_all_threads(run: Run, number: signal.Signals) -> None:
    """The exit code is the signal's, and standard error is empty, as without a recorder."""
    left = run(
        f"""
        import os, threading
        def waits():
            threading.Event().wait()
        def crashes():
            os.kill(os.getpid(), {int(number)})
        threading.Thread(target=waits, daemon=True).start()
        crashes()
        """
    )
    assert left.code == -number
    assert left.err == ""
    assert " in crashes\n" in left.crash
    assert " in waits\n" in left.crash


@pytest.mark.parametrize(
    ("options", "environ"), [(["-X", "faulthandler"], {}), ([], {"PYTHONFAULTHANDLER": "1"})]
)
def test_a_faulthandler_that_is_on_is_left_alone(
    run: Run, options: list[str], environ: dict[str, str]
) -> None:
    """Its stacks go where they would go without a recorder."""
    left = run("import os\nos.kill(os.getpid(), 11)", *options, **environ)
    assert left.code == -signal.SIGSEGV
    assert left.crash == ""
    assert "Fatal Python error: Segmentation fault" in left.err


def test_a_faulthandler_of_the_programs_own_takes_over(run: Run) -> None:
    """As ``@record`` does it."""
    left = run("import faulthandler, os\nfaulthandler.enable(all_threads=True)\nos.kill(os.getpid(), 11)")
    assert left.crash == ""
    assert "Fatal Python error: Segmentation fault" in left.err


def test_no_crash_takes_more_than_its_room(run: Run, memories: Memories) -> None:
    """A hundred threads, a hundred calls deep: what does not fit is not written."""
    left = run(
        """
        import os, sys, threading
        started = threading.Semaphore(0)
        def a_function_with_a_name_that_takes_a_lot_of_room_in_each_line_of_a_stack(depth):
            if depth:
                return a_function_with_a_name_that_takes_a_lot_of_room_in_each_line_of_a_stack(depth - 1)
            started.release()
            threading.Event().wait()
        for _ in range(60):
            threading.Thread(target=a_function_with_a_name_that_takes_a_lot_of_room_in_each_line_of_a_stack,
                             args=(100,), daemon=True).start()
        for _ in range(60):
            started.acquire()
        os.kill(os.getpid(), 11)
        """
    )
    assert left.code == -signal.SIGSEGV
    assert len(left.crash) == file.SIZE - file.CRASH
    assert os.fstat(memory_of(memories)).st_size == file.SIZE


# What a program sees


SEES = """
import os, sys
print({name: value for name, value in os.environ.items() if "OTEL" in name or name == "PYTHONPATH"})
print(sys.path, "sitecustomize" in sys.modules, sys.argv, sys.flags)
"""


@pytest.mark.parametrize("environ", [{}, {"PYTHONPATH": ""}, {"PYTHONPATH": "/a:/b"}, {"PYTHONPATH": ":/a"}])
def test_environment_and_path_are_what_they_would_be(run: Run, environ: dict[str, str]) -> None:
    """Unset stays unset: an empty entry would be the working directory."""
    left = run(SEES, **environ)
    assert left.recorder
    assert (left.code, left.out, left.err) == plain(SEES, **environ)


@pytest.mark.parametrize("own", ["print('customized')", "raise ValueError('broken')", "import no_such_thing"])
def test_a_sitecustomize_of_the_programs_own_runs(run: Run, tmp_path: Path, own: str) -> None:
    """The user's, a distribution's or the zero-code loader's; also one that fails, in Python's words."""
    (tmp_path / "sitecustomize.py").write_text(own)
    left = run(SEES, PYTHONPATH=str(tmp_path))
    assert left.recorder
    assert (left.code, left.out, left.err) == plain(SEES, PYTHONPATH=str(tmp_path))


def test_children_of_a_worker_do_not_record(run: Run) -> None:
    """Neither what it starts nor what it has changed into by ``exec``."""
    left = run("import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'raise ValueError(1)'])")
    assert (left.raised, left.type) == (None, "")
    left = run("import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'raise ValueError(2)'])")
    assert left.code == 1
    assert (left.raised, left.type) == (None, "")


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_processes_of_multiprocessing_do_not_record(run: Run, tmp_path: Path, method: str) -> None:
    """DataLoader's workers are such."""
    (tmp_path / "loader.py").write_text("def load():\n    raise ValueError('in a loader')\n")
    left = run(
        f"""
        import multiprocessing
        from loader import load
        if __name__ == "__main__":
            process = multiprocessing.get_context({method!r}).Process(target=load)
            process.start()
            process.join()
            print(process.exitcode)
        """,
        PYTHONPATH=str(tmp_path),
    )
    assert left.out == "1\n"
    assert "in a loader" in left.err
    assert (left.raised, left.type) == (None, "")


def test_who_is_no_child_of_the_launcher_takes_itself_out(run: Run, memories: Memories) -> None:
    """A shell in between may start what it likes."""
    env = {**WITHOUT, **memories.environment(0, WITHOUT)}
    command = (
        f"'{sys.executable}' -c 'import os; print(os.environ.get(\"PYTHONPATH\")); raise ValueError'; true"
    )
    done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    assert file.read_number(memory_of(memories), file.RECORDER_PID) == 0


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_an_interpreter_that_looks_at_nothing_runs_on(run: Run, option: str) -> None:
    """Nothing is recorded, and nothing goes wrong."""
    left = run("print('runs')", option)
    assert (left.code, left.out, left.err, left.recorder) == (0, "runs\n", "", 0)


@pytest.mark.parametrize("told", ["", "x y z", "1 2 unset", "OURS 99999 unset", "OURS 0 set"])
def test_a_recorder_that_cannot_begin_costs_nothing(tmp_path: Path, told: str) -> None:
    """Whatever its launcher tells it."""
    with Memories([0]) as memories:
        told = told.replace("OURS", str(os.getpid()))
        env = {**WITHOUT, **memories.environment(0, WITHOUT), "_TORCHELASTIC_OTEL_RECORDER": told}
    source = "import os; print(os.environ.get('PYTHONPATH'))"
    done = subprocess.run([sys.executable, "-c", source], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("" if told.endswith(" set") else "None", "")


def test_memory_has_one_size_for_ever(memories: Memories) -> None:
    """Nobody can truncate it under somebody who has mapped it, or fill a machine with it."""
    memory = memory_of(memories)
    with pytest.raises(PermissionError):
        os.ftruncate(memory, 0)
    with pytest.raises(PermissionError):
        os.pwrite(memory, b"x", file.SIZE)
    assert os.fstat(memory).st_blocks * 512 >= file.SIZE  # it is there, and not only promised
