"""Writes the table of ``delivery.md`` from the delivery policy; ``docs/reference.py`` runs it, too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from torchelastic_otel._delivery.answer import GRPC_KINDS, HTTP_KINDS, Answer, AnswerKind
from torchelastic_otel._delivery.policy import Circumstances, Decision, decide

DOCUMENT = Path(__file__).with_name("delivery.md")
START, END = "<!-- table: answers -->\n", "\n<!-- end -->"

BEFORE: dict[AnswerKind, str] = {
    "delivered": "2xx, OK",
    "retry": "no answer, 5xx",
    "held": "3xx, a certificate that is not trusted",
    "late": "a refusal that says the data is too old (Loki, Prometheus)",
    "rejected": "any other 4xx, any other gRPC code",
    "unsupported": "",
}
"""What is no single code."""

FATES = {
    "delivered": "delivered",
    "kept": "kept",
    "split": "sent again in smaller requests",
    "held": "held in the spool until `replay`",
    "dropped": "dropped and counted as `{reason}`",
}
THEN = {
    "go on": "",
    "back off": " and tried again",
    "signal off": ", as is all that follows of this signal",
    "leave signal": " with the rest of this signal there",
    "stop": " with all the rest, for the next job or `replay`",
}


def words(decision: Decision) -> str:
    """Say what is done."""
    return FATES[decision.fate].format(reason=decision.reason) + THEN[decision.then]


def cell(answer: Answer, *, own: bool, count: int = 1) -> str:
    """Say what is done in all circumstances of the process's own items, or of those that were left."""

    def said(*, in_memory: bool, taken_before: bool) -> str:
        known = Circumstances(own=own, in_memory=in_memory, count=count, taken_before=taken_before)
        return words(decide(answer, known))

    def in_place(*, in_memory: bool) -> str:
        before, after = (said(in_memory=in_memory, taken_before=taken) for taken in (False, True))
        return after if after == before else f"{before}; {after} if others of this signal were taken"

    on_disk = in_place(in_memory=False)
    in_memory = in_place(in_memory=True) if own else on_disk  # what was left is on a disk
    return on_disk if in_memory == on_disk else f"{on_disk}; without a spool {in_memory}"


def codes(kind: AnswerKind) -> str:
    """Name the answers of a kind."""
    named = [str(status) for status, meaning in HTTP_KINDS.items() if meaning == kind]
    named += [f"`{code}`" for code, meaning in GRPC_KINDS.items() if meaning == kind]
    return ", ".join([BEFORE[kind], *named]).removeprefix(", ")


def table() -> str:
    """Return the table as Markdown."""
    rows = ["| Answer | Recorded by this job | Left by an earlier one |", "| --- | --- | --- |"]
    too_large = Answer("rejected", too_large=True)
    answers = [("413, a gRPC message that is too large, of several items", too_large, 2)]
    answers += [(codes(kind), Answer(kind), 1) for kind in get_args(AnswerKind)]
    for name, answer, count in answers:
        own, left = (cell(answer, own=own, count=count) for own in (True, False))
        rows.append(f"| {name} | {own} | {left} |")
    return "\n".join(rows)


def main() -> int:
    """Write the document, or check it with ``--check``."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    new = f"{before}{START}{table()}{END}{after}"
    if "--check" in sys.argv[1:]:
        if new != text:
            sys.stderr.write("docs/delivery.md is not what the policy says: run python docs/reference.py\n")
        return int(new != text)
    DOCUMENT.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
