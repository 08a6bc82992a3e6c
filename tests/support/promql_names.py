"""Reads names out of PromQL and LogQL, so that tests can hold them against what the project has.

It does not parse the languages (promtool and Loki do that in other tests): it tells which words are there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_STRING = re.compile(r"""(["'`])(?:\\.|(?!\1).)*\1""")
_TIME = re.compile(r"\[[^\]]*\]|\b\d+[a-z]+\b")
_WORD = re.compile(r"[A-Za-z_:][\w:]*")
_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|on|without|group_left|group_right|ignoring)\s*\(([^)]*)\)")

PROMQL_WORDS: Final = frozenset(
    {
        "and",
        "bool",
        "bottomk",
        "by",
        "clamp_min",
        "count",
        "end",
        "group_left",
        "histogram_quantile",
        "last_over_time",
        "max",
        "max_over_time",
        "min",
        "offset",
        "on",
        "or",
        "present_over_time",
        "sort",
        "sort_desc",
        "sum",
        "timestamp",
        "topk",
        "unless",
        "vector",
    }
)
LOGQL_WORDS: Final = frozenset(
    {
        "by",
        "count",
        "count_over_time",
        "max",
        "max_over_time",
        "sum",
        "unwrap",
    }
)


def unknown_in_promql(expression: str, metrics: Mapping[str, frozenset[str]]) -> set[str]:
    """Return the words of a PromQL expression that are no name of a metric, or no label of it."""
    labels = frozenset[str]().union(*metrics.values())
    bare = _STRING.sub('""', expression)
    unknown = {
        f"{name}{{{label}}}"
        for name, matchers in _SELECTOR.findall(bare)
        for label in _MATCHER.findall(matchers)
        if label not in metrics.get(name, frozenset())
    }
    bare = _SELECTOR.sub(r"\1", bare)
    for group in _GROUPING.findall(bare):
        unknown |= {label for label in _WORD.findall(group) if label not in labels}
    bare = _TIME.sub("", _GROUPING.sub("", bare))
    return unknown | {
        word for word in _WORD.findall(bare) if word not in metrics and word not in PROMQL_WORDS
    }


def unknown_in_logql(expression: str, labels: frozenset[str]) -> set[str]:
    """Return the words of a LogQL expression that are no label and no structured metadata."""
    bare = _TIME.sub("", _STRING.sub('""', expression))
    return {word for word in _WORD.findall(bare) if word not in labels and word not in LOGQL_WORDS}
