"""Writes the tables of ``delivery.md`` from the delivery policy; ``docs/reference.py`` runs it, too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from torchelastic_otel._delivery.answer import GRPC_KINDS, HTTP_KINDS, AnswerKind
from torchelastic_otel._delivery.policy import A_RUN, ASK_AGAIN_S, MOST_ALONE, PATIENCE, POLICY, Decision, Row

DOCUMENT = Path(__file__).with_name("delivery.md")
MARKS = {name: (f"<!-- table: {name} -->\n", "\n<!-- end -->") for name in ("answers", "policy")}

REST: dict[AnswerKind, str] = {
    "delivered": "2xx with an OTLP response or an empty body, `OK`",
    "rejected": "any other gRPC code",
    "late": "a refusal that says the data is too old (Loki, Prometheus)",
    "busy": "5xx with `Retry-After` or `RetryInfo`",
    "retry": "any other 5xx, silence on a connection",
    "unreachable": "no connection",
    "shut": "any other 3xx or 4xx, a certificate that is not trusted",
    "foreign": "2xx with anything but an OTLP response, such as a page of HTML",
    "unsupported": "",
}
"""What is no single code."""

FATES = {
    "delivered": "delivered",
    "kept": "kept",
    "split": "sent again in smaller requests",
    "held": "held in the spool until `replay`, as `{reason}`",
    "dropped": "dropped, counted as `{reason}`",
}
THEN = {
    "go on": "is sent",
    "back off": "waits for the back-off",
    "others first": "waits for the back-off, and is sent first",
    "signal off": "is dropped, counted as `unsupported`, for "
    f"{ASK_AGAIN_S / 60:g} minutes; then the place is asked again",
    "leave signal": "stays, as far as it is of this signal",
    "stop": "stays",
}
CONDITIONS = (
    ("own", True, "recorded by this job"),
    ("own", False, "left by an earlier job"),
    ("too_large", True, "the request is too large"),
    ("several", True, "several items"),
    ("several", False, "one item"),
    ("in_memory", True, "no spool"),
    ("taken_before", True, "some of this signal were taken there"),
    ("taken_before", False, "none of this signal was taken there yet"),
    ("in_a_run", True, f"{A_RUN} or more were refused in a row before"),
    ("in_a_run", False, f"fewer than {A_RUN} were refused in a row before"),
    ("hopeless", True, f"{A_RUN} attempts failed in a row"),
    ("in_turn", True, f"fewer than {PATIENCE} attempts with it"),
    ("poison", True, f"it failed {MOST_ALONE} times while others were taken"),
)
"""Fields of a row, what they have, and what that means."""


def when(row: Row) -> str:
    """Say when a row counts."""
    return ", ".join(text for field, value, text in CONDITIONS if getattr(row, field) is value)


def fate(decision: Decision) -> str:
    """Say what becomes of the items."""
    return FATES[decision.fate].format(reason=decision.reason)


def codes(kind: AnswerKind) -> str:
    """Name the answers of a kind."""
    named = [str(status) for status, meaning in HTTP_KINDS.items() if meaning == kind]
    named += [f"`{code}`" for code, meaning in GRPC_KINDS.items() if meaning == kind]
    return ", ".join([*named, REST[kind]]).removesuffix(", ")


def tables() -> dict[str, str]:
    """Return the tables as Markdown."""
    answers = ["| Answer | What it is |", "| --- | --- |"]
    answers += [f"| {kind} | {codes(kind)} |" for kind in get_args(AnswerKind)]
    policy = ["| Answer | When | These items are | What is behind them |", "| --- | --- | --- | --- |"]
    for row in POLICY:
        kinds = ", ".join(row.answers()) or "any"
        policy.append(f"| {kinds} | {when(row)} | {fate(row.decision)} | {THEN[row.decision.then]} |")
    return {"answers": "\n".join(answers), "policy": "\n".join(policy)}


def main() -> int:
    """Write the document, or check it with ``--check``."""
    text = new = DOCUMENT.read_text()
    for name, table in tables().items():
        start, end = MARKS[name]
        before, _, rest = new.partition(start)
        _, _, after = rest.partition(end)
        new = f"{before}{start}{table}{end}{after}"
    if "--check" in sys.argv[1:]:
        if new != text:
            sys.stderr.write("docs/delivery.md is not what the policy says: run python docs/reference.py\n")
        return int(new != text)
    DOCUMENT.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
