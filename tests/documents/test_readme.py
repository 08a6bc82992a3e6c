"""What the README says is run, and what it links to is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from otlp_receiver import OtlpReceiver
from tests.support.example_runs import DEMO_NODE_0, DEMO_NODE_1, PROJECT, run, tree_of

README = (PROJECT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)( run)?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
TO_RUN = [(language, text) for language, marked, text in BLOCKS if marked]


@pytest.mark.e2e
@pytest.mark.parametrize(("language", "text"), TO_RUN)
def test_block(language: str, text: str, tmp_path: Path) -> None:
    """It works as it stands there in a clone, but for the address that telemetry goes to."""
    with OtlpReceiver() as receiver:
        command = text.replace("http://localhost:4317", receiver.grpc_endpoint)
        if language == "python":
            (tmp_path / "program.py").write_text(text)
            command = f"python {tmp_path / 'program.py'}"
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "NO_PROXY": "127.0.0.1",
        }
        result = run(command, env=env)
        assert result.returncode == 0, result.stderr
        if "torchrun" in text or "elastic_launch" in text:
            assert [
                span.attributes["torchelastic.outcome"]
                for span in receiver.spans
                if span.name == "torchelastic.agent"
            ] == ["succeeded"]
        if "torchrun" in text:
            assert [result.stdout.count(f"worker {rank} of 2") for rank in (0, 1)] == [1, 1]
        if "elastic_launch" in text:
            assert ast.literal_eval(result.stdout) == {0: "done", 1: "done"}
        if "TRACE_URL" in text:
            [trace_id] = {span.trace_id for span in receiver.spans}
            assert f"http://localhost:16686/trace/{trace_id}" in result.stderr


def test_all_blocks_are_run() -> None:
    """Those that are not run here are run by the continuous integration, or are what the demo prints."""
    others = [(language, text) for language, marked, text in BLOCKS if not marked]
    assert len(TO_RUN) == 6
    commands, install = [text for language, text in others if language != "text"]
    assert [line.split("#")[0].strip() for line in commands.splitlines()] == ["make demo", "make test"]
    assert install == "pip install . torch\n"
    ci = (PROJECT / ".ci" / "run").read_text()
    for command in ("make demo", "make test", "make release-check"):
        assert f"\n{command}\n" in ci


def test_the_demo_installs_what_the_package_needs_and_torch() -> None:
    """No developer's tool, all pinned, and in the versions that the package is developed with."""

    def pinned(name: str) -> dict[str, str]:
        text = (PROJECT / "requirements" / name).read_text()
        return dict(re.findall(r"^([\w-]+)==(\S+)$", text, re.MULTILINE))

    project = (PROJECT / "pyproject.toml").read_text()
    [dependencies] = re.findall(r"^dependencies = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    needed = {*re.findall(r'"([\w-]+)', dependencies), "torch"}
    demo = pinned("demo.txt")
    assert demo.keys() == needed
    others = {
        name: version
        for file in ("dev", "otel", "lock", "release")
        for name, version in pinned(f"{file}.txt").items()
    }
    assert demo.items() <= others.items()


def test_demo_output_is_of_the_demo() -> None:
    """What is shown of it is what ``test_demo`` finds in a real run."""
    [shown] = [text for language, _, text in BLOCKS if language == "text"]
    assert re.fullmatch(" ".join([DEMO_NODE_0[0], "…", *DEMO_NODE_1]), tree_of(shown))
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
    "document",
    [*sorted(PROJECT.glob("*.md")), *sorted(PROJECT.glob("docs/*.md")), PROJECT / "examples" / "README.md"],
    ids=lambda path: str(path.relative_to(PROJECT)),
)
def test_links_lead_somewhere(document: Path) -> None:
    """A link into the project names a file that is there."""
    for link in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if "://" not in link:
            assert (document.parent / link).exists(), link
