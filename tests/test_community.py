"""What stands around the code: workflows, forms and documents name what is there, an sdist has all of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from torchelastic_otel import cli
from torchelastic_otel._version import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
PACKAGE = PROJECT / "src" / "torchelastic_otel"
GITHUB = PROJECT / ".github"

CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text()
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in (GITHUB / "workflows").glob("*.yml")}
JOBS = {
    f"{name}/{job}": content
    for name, workflow in WORKFLOWS.items()
    for job, content in workflow["jobs"].items()
}
FORMS = {
    path.name: yaml.safe_load(path.read_text())
    for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml")
    if path.name != "config.yml"
}
TEXTS = {
    str(path.relative_to(PROJECT)): path.read_text()
    for path in (
        PROJECT / "CONTRIBUTING.md",
        PROJECT / "SECURITY.md",
        GITHUB / "PULL_REQUEST_TEMPLATE.md",
        *(GITHUB / "ISSUE_TEMPLATE").glob("*.yml"),
    )
}
TARGETS = set(re.findall(r"^([a-z][a-z0-9.-]*):", (PROJECT / "Makefile").read_text(), re.MULTILINE))

each_job = pytest.mark.parametrize("job", JOBS.values(), ids=JOBS.keys())
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
each_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())


def commands(job: dict[str, Any]) -> list[str]:
    """Return what a job runs, once for each value of its matrix."""
    matrix: dict[str, list[str]] = job.get("strategy", {}).get("matrix", {})
    found = [step["run"] for step in job["steps"] if "run" in step]
    for name, values in matrix.items():
        place = f"${{{{ matrix.{name} }}}}"
        found = [run.replace(place, value) for run in found for value in (values if place in run else [""])]
    return found


def code(markdown: str) -> list[str]:
    """Return the pieces of code in a text: the lines of its blocks, and what stands in backticks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", prose)


def made(commands: list[str]) -> set[str]:
    """Return the targets that commands make."""
    found: set[str] = set()
    for command in commands:
        for words in re.findall(r"\bmake((?: [\w.=-]+)*)", command.partition("#")[0]):
            found |= {word for word in words.split() if "=" not in word}
    return found


def paths(pieces: list[str]) -> Iterator[str]:
    """Yield what is written as a path of the project or of its package; what tests and tools make is not."""
    for word in (word.rstrip(",;") for piece in pieces for word in piece.split()):
        is_path = re.fullmatch(r"[\w.*-]+(/[\w.*-]*)+(::\w+)?|[\w-]+\.(py|md|toml|txt|yml)|Makefile", word)
        if is_path and "NAME" not in word and not re.match(r"\.venv|\.tools|dist/|bin/", word):
            yield word


# --- workflows --------------------------------------------------------------------------------------------


def test_there_are_the_three_workflows() -> None:
    """Each change, each night, each release."""
    assert WORKFLOWS.keys() == {"ci.yml", "nightly.yml", "release.yml"}


@each_job
def test_a_job_runs_what_is_there(job: dict[str, Any]) -> None:
    """Every target is one of the Makefile's, and every script is in the project."""
    run = commands(job)
    assert made(run) <= TARGETS
    for script in (word for command in run for word in command.split() if re.match(r"\.ci/|tests/", word)):
        assert (PROJECT / script).is_file(), script
    assert run or any("uses" in step for step in job["steps"])


@each_job
def test_a_job_ends_and_its_actions_have_a_major_version(job: dict[str, Any]) -> None:
    """It has a time limit, and takes no action from a branch that moves across versions."""
    assert 0 < job["timeout-minutes"] <= 90
    for action in (step["uses"] for step in job["steps"] if "uses" in step):
        assert re.fullmatch(r"[\w-]+/[\w-]+@(release/)?v\d+", action), action


@pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS.keys())
def test_a_workflow_may_read_and_no_more(workflow: dict[str, Any]) -> None:
    """What a job may do beyond that, it says itself; two runs for one ref do not run beside each other."""
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"].startswith("${{ github.workflow }}")


def test_only_what_publishes_may_do_more() -> None:
    """The upload gets an identity and cannot write here; the release writes here and has no identity."""
    more = {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job}
    assert more == {
        "release.yml/publish": {"id-token": "write"},
        "release.yml/release": {"contents": "write"},
    }


def test_every_change_runs_all_checks_and_every_python() -> None:
    """One Python has all of ``.ci/run``, the others of the classifiers the fast tests."""
    whole, fast = JOBS["ci.yml/all"], JOBS["ci.yml/fast"]
    assert commands(whole) == [".ci/run"]
    [python] = [step["with"]["python-version"] for step in whole["steps"] if "python" in step.get("uses", "")]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    named = {text.rpartition(" ")[2] for text in project["classifiers"] if ":: 3." in text}
    assert {python, *fast["strategy"]["matrix"]["python"]} == named


def test_the_night_has_all_of_make_nightly_and_the_canary() -> None:
    """One job for each target that ``make nightly`` comes to."""
    makefile = (PROJECT / "Makefile").read_text()

    def prerequisites(target: str) -> set[str]:
        [line] = re.findall(rf"^{target}: ([^#\n]*?) ##", makefile, re.MULTILINE)
        return set(line.split())

    nightly = prerequisites("nightly") - {"compat"} | prerequisites("compat")
    assert made(commands(JOBS["nightly.yml/run"])) == nightly | {"canary"}


# --- .ci/run ----------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project of ``.ci/run`` and a make that tells what it is called for, and what it must have."""
    project, programs = tmp_path / "project", tmp_path / "bin"
    (project / ".ci").mkdir(parents=True)
    shutil.copy(PROJECT / ".ci" / "run", project / ".ci")
    programs.mkdir()
    make = programs / "make"
    make.write_text(
        "#!/bin/sh\n"
        'echo "make $* TOOLS=$TORCHELASTIC_OTEL_TOOLS REQUIRE=$TORCHELASTIC_OTEL_REQUIRE_TOOLS $OTEL_X"\n'
    )
    make.chmod(0o755)
    return project


def ci_run(project: Path, **environ: str) -> tuple[int, list[str]]:
    """Run it; return its exit status and what make told."""
    path = f"{project.parent / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        [project / ".ci" / "run"],
        env={"PATH": path, "OTEL_X": "said", **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, [line for line in done.stdout.splitlines() if line.startswith("make ")]


def test_ci_makes_targets_that_are_there(checkout: Path) -> None:
    """All of them, whatever the machine says about telemetry."""
    code, said = ci_run(checkout)
    assert code == 0
    assert {line.split()[1] for line in said} <= TARGETS
    assert not [line for line in said if "said" in line]


def test_ci_skips_tests_without_backends_unless_told_otherwise(checkout: Path) -> None:
    """Also where CI is set, as on any hosted machine."""
    for environ, tools, require in (
        ({"CI": "true"}, "", ""),
        ({"CI": "true", "TORCHELASTIC_OTEL_REQUIRE_TOOLS": "1"}, "", "1"),
        (
            {"TORCHELASTIC_OTEL_REQUIRE_TOOLS": "1", "TORCHELASTIC_OTEL_TOOLS": "/opt/tools"},
            "/opt/tools",
            "1",
        ),
    ):
        code, said = ci_run(checkout, **environ)
        assert code == 0
        assert said
        assert all(f" TOOLS={tools} REQUIRE={require} " in line for line in said), said


def test_ci_insists_on_the_backends_that_stand_beside_the_project(checkout: Path) -> None:
    """They are unpacked and every test that lacks one fails; where they cannot be unpacked, so does all."""
    unpack = checkout.parent / "shared" / "tools" / "unpack"
    unpack.parent.mkdir(parents=True)
    assert ci_run(checkout) == (127, [])
    unpack.write_text('#!/bin/sh\nmkdir "$1"\n')
    unpack.chmod(0o755)
    code, said = ci_run(checkout, TORCHELASTIC_OTEL_TOOLS="/opt/tools")
    assert code == 0
    assert (checkout / ".tools").is_dir()
    assert all(" TOOLS= REQUIRE=1 " in line for line in said), said


# --- forms and documents ----------------------------------------------------------------------------------


@each_form
def test_a_form_is_one(form: dict[str, Any]) -> None:
    """It has a name, a description and fields, each with a label and an id of its own."""
    assert form.keys() == {"name", "description", "labels", "body"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown"}
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


@pytest.mark.parametrize("name", ["bug.yml", "telemetry.yml"])
def test_a_report_says_with_what_and_how(name: str) -> None:
    """Versions, the doctor's words, the command and what was expected are asked for, and required."""
    fields = [field for field in FORMS[name]["body"] if field.get("validations", {}).get("required")]
    assert {"torch", "opentelemetry", "doctor", "launcher", "expected"} <= {field["id"] for field in fields}


@each_text
def test_a_text_names_commands_that_are_there(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every target is one of the Makefile's, every command of the package's own one that it has."""
    assert made(code(text)) <= TARGETS
    for piece in code(text):
        name, *arguments = piece.split() or [""]
        if name == "torchelastic-otel":
            with pytest.raises(SystemExit) as ended:
                cli.main([*(argument.rstrip(",") for argument in arguments), "--help"])
            assert ended.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("word", sorted(set(paths(code(CONTRIBUTING)))))
def test_contributing_names_a_path_that_is_there(word: str) -> None:
    """It stands in the project or in its package, and has the test that is named."""
    path, _, test = word.partition("::")
    found = [file for root in (PROJECT, PACKAGE) for file in root.glob(path)]
    assert found
    assert not test or f"def {test}(" in found[0].read_text()


def test_contributing_shows_every_room() -> None:
    """Each package and each module beside them stands in the map; each package in the order of imports."""
    rows = re.findall(r"^\| (`.*?) \| .*? \|$", CONTRIBUTING, re.MULTILINE)
    shown = {name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)}
    modules = {path.name for path in PACKAGE.glob("*.py")}
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert modules | rooms <= shown
    [order] = re.findall(r"^```text\n(.*?)^```$", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"_\w+", order)) == rooms - {"_runtime"}  # part of the ground


def test_contributing_answers_the_questions() -> None:
    """Ten places where something is added, each with a path."""
    table = CONTRIBUTING.partition("## Where do I add …")[2].partition("\n## ")[0]
    answers = re.findall(r"^\| (an? [^|]*) \| ([^|]*) \|", table, re.MULTILINE)
    assert len(answers) == 10
    assert all(re.search(r"`[\w-]+/[^`]*`", answer) for _, answer in answers)


# --- releases ---------------------------------------------------------------------------------------------


def test_an_sdist_has_all_that_git_has() -> None:
    """By the list in pyproject.toml; ``make release-check`` looks into a real one, file by file."""
    build = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    listed = {entry.removeprefix("/") for entry in build["targets"]["sdist"]["include"]}
    assert {entry for entry in listed if not (PROJECT / entry).exists()} == set()
    if not (PROJECT / ".git").exists():
        return  # an sdist itself: that the listed is there is all that can be asked
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert {path.partition("/")[0] for path in tracked.stdout.splitlines()} == listed | {"pyproject.toml"}


def notes(tag: str) -> subprocess.CompletedProcess[str]:
    """Run what prints a release's notes."""
    return subprocess.run(
        [sys.executable, PROJECT / ".ci" / "release_notes.py", tag],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_release_says_what_changed() -> None:
    """The notes of a version are its section of the changelog, without headings of versions."""
    done = notes(f"v{__version__}")
    assert done.returncode == 0, done.stderr
    changelog = (PROJECT / "CHANGELOG.md").read_text()
    assert changelog.partition(f"## [{__version__}]")[2].startswith(("\n", " "))
    assert done.stdout.strip() in changelog
    assert "## [" not in done.stdout


@pytest.mark.parametrize("tag", [__version__, "v0.0.0", "v"])
def test_a_tag_of_another_version_is_refused(tag: str) -> None:
    """Nothing is released under a name that the code does not have."""
    done = notes(tag)
    assert (done.returncode, done.stdout) == (1, "")
    assert __version__ in done.stderr
