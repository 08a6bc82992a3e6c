"""Writes the Grafana dashboards from the project's names: ``python collector-config/grafana/dashboards.py``.

With ``--check`` it writes nothing and exits with 1 where the files are not what the code says. It needs
Python 3.11 and grafana-foundation-sdk (see requirements/tools.txt); who only uses the dashboards needs the
files alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboard_job import job
from dashboard_jobs import jobs

DIRECTORY: Final = Path(__file__).with_name("dashboards")


def rendered() -> dict[Path, str]:
    """Return each file's text."""
    return {
        DIRECTORY / f"{name}.json": json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, made in (("jobs", jobs()), ("job", job()))
    }


def main() -> int:
    """Write or check the files."""
    files = rendered()
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in files.items() if not path.exists() or path.read_text() != text]
        if stale:
            sys.stderr.write(f"{', '.join(stale)}: not what the code says; run python {__file__}\n")
        return 1 if stale else 0
    DIRECTORY.mkdir(exist_ok=True)
    for path, text in files.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
