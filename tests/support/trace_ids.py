"""The trace ids that ``docs/trace-identity.md`` promises, computed from its words alone."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "trace-identity.md"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NAMELESS = ["", "none", "None", "NONE", " none ", "  "]
"""Run ids that identify no job."""


def documented_id(*parts: str) -> str:
    """Compute the id from the documented bytes, independently of the package."""
    data = b"torchelastic-otel/trace-id/v1"
    for part in parts:
        encoded = part.encode()
        data += str(len(encoded)).encode() + b":" + encoded + b","
    return hashlib.sha256(data).hexdigest()[:32]


def documented_vectors() -> list[tuple[str, ...]]:
    """Read the rows of the document's table of test vectors."""
    _, _, section = DOCUMENT.read_text(encoding="utf-8").partition("\n## Test vectors\n")
    section = section.partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*`) \|$", section, re.MULTILINE)
    return [tuple("" if cell == '`""`' else cell.strip("`") for cell in row.split(" | ")) for row in rows]
