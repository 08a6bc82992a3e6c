"""Prints what CHANGELOG.md says of a version, as Markdown: ``python .ci/release_notes.py v0.1.0``.

It exits with 1 if the tag is not that of the version in the code, or the changelog says nothing of it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def version() -> str:
    """Return the version that the code says it is."""
    text = (PROJECT / "src" / "torchelastic_otel" / "_version.py").read_text()
    [found] = re.findall(r'^__version__: Final = "([^"]+)"$', text, re.MULTILINE)
    return str(found)


def section(changelog: str, number: str) -> str:
    """Return what stands under a version's heading, "" if there is none.

    Args:
        changelog: the whole file.
        number: the version.
    """
    heading = rf"^## \[{re.escape(number)}\][^\n]*\n(.*?)(?=^## |\Z)"
    found = re.search(heading, changelog, re.MULTILINE | re.DOTALL)
    return found.group(1).strip() if found else ""


def main(arguments: list[str]) -> int:
    """Print the notes."""
    if len(arguments) != 1:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    [tag] = arguments
    if tag != f"v{version()}":
        sys.stderr.write(
            f"The tag is {tag}, the version in _version.py is {version()}: it takes v{version()}.\n"
        )
        return 1
    notes = section((PROJECT / "CHANGELOG.md").read_text(), version())
    if not notes:
        sys.stderr.write(f"CHANGELOG.md says nothing of {version()}.\n")
        return 1
    sys.stdout.write(f"{notes}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
