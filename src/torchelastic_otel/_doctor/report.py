"""What the doctor found: checks and settings, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from .._values import clean_text

Status = Literal["ok", "warning", "problem", "off"]
Value = str | bool | int | float | list[str]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What: a signal, ``torch``, ``spool``, …"""
    status: Status
    """``problem`` stops telemetry, ``warning`` does not, ``off`` is what the user wants."""
    message: str
    """What was found, in one sentence."""
    advice: str = ""
    """What to do about it; "" if nothing."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What counts, and why."""

    value: Value
    source: str
    """The environment variable it comes from, else ``default`` or how it was found out."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that the doctor found."""

    about: Mapping[str, str]
    """Versions, and which Python."""
    settings: Mapping[str, Mapping[str, Setting]]
    """By group; those of a signal are under its name."""
    checks: tuple[Check, ...]
    signals: tuple[str, ...]
    """Names of the groups and checks that are signals."""

    @property
    def ok(self) -> bool:
        """Whether telemetry would arrive."""
        return not any(check.status == "problem" for check in self.checks)

    @property
    def verdict(self) -> str:
        """The last line: all in one sentence."""
        problems = _alike([check for check in self.checks if check.status == "problem"])
        if problems:
            check, *others = problems
            more = f" (And {len(others)} more, see above.)" if others else ""
            return f"Problem: {check.name}: {' '.join(filter(None, (check.message, check.advice)))}{more}"
        if not any(check.name in self.signals for check in self.checks):
            return "No problem was found, but nothing was sent."
        return "Telemetry would arrive."

    def as_json(self) -> str:
        """Return one JSON object."""
        settings = {
            group: {name: asdict(setting) for name, setting in members.items()}
            for group, members in self.settings.items()
        }
        checks = [asdict(check) for check in self.checks]
        found = {
            "ok": self.ok,
            "verdict": self.verdict,
            **self.about,
            "settings": settings,
            "checks": checks,
        }
        return json.dumps(found, indent=2)

    def as_text(self) -> str:
        """Return lines for a terminal; the last one is the verdict."""
        lines = [", ".join(f"{name} {value}" for name, value in self.about.items()), "", "Settings"]
        rows = self._signal_rows()
        for group, members in self.settings.items():
            if group not in self.signals:
                rows += [(name, _shown(setting.value), setting.source) for name, setting in members.items()]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)] if rows else [0, 0]
        widths[1] = min(widths[1], 60)
        lines += [f"  {name:{widths[0]}}  {value:{widths[1]}}  {source}" for name, value, source in rows]
        lines += ["", "Checks"]
        checks = _alike(self.checks)
        width = max((len(check.name) for check in checks), default=0)
        for check in checks:
            lines.append(f"  {check.status:7}  {check.name:{width}}  {check.message}")
            if check.advice:
                lines.append(f"  {'':7}  {'':{width}}  -> {check.advice}")
        return "\n".join([*lines, "", self.verdict])

    def _signal_rows(self) -> list[tuple[str, str, str]]:
        """Return the settings of signals, those that are the same for several in one row."""
        rows: dict[tuple[str, str, str], list[str]] = {}
        names = list(dict.fromkeys(name for signal in self.signals for name in self.settings[signal]))
        for name in names:
            for signal in self.signals:
                setting = self.settings[signal].get(name)
                if setting is not None:
                    rows.setdefault((name, _shown(setting.value), setting.source), []).append(signal)
        return [
            (name if len(signals) == len(self.signals) else f"{name} ({', '.join(signals)})", value, source)
            for (name, value, source), signals in rows.items()
        ]


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else clean_text(str(value)) or "none"


def _alike(checks: tuple[Check, ...] | list[Check]) -> list[Check]:
    """Put checks that say the same into one."""
    names: dict[tuple[Status, str, str], list[str]] = {}
    for check in checks:
        names.setdefault((check.status, check.message, check.advice), []).append(check.name)
    return [
        Check(", ".join(dict.fromkeys(group)), status, message, advice)
        for (status, message, advice), group in names.items()
    ]
