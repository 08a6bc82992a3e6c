"""Writes prometheus-rule.yaml from torchelastic.rules.yaml.

``python collector-config/prometheus/prometheus_rule.py`` renews it.
With ``--check`` it writes nothing, and exits with 1 where the two differ.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Final

RULES: Final = Path(__file__).with_name("torchelastic.rules.yaml")
OBJECT: Final = Path(__file__).with_name("prometheus-rule.yaml")
HEAD: Final = """\
# torchelastic.rules.yaml for the Prometheus operator; `make generate` writes it. Your Prometheus takes it if
# the label is one that its ruleSelector asks for: "release: NAME" where kube-prometheus-stack has that name.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: torchelastic
  labels:
    release: kube-prometheus-stack
spec:
"""


def rendered() -> str:
    """Return the object's text."""
    rules = RULES.read_text()
    return HEAD + textwrap.indent(rules[rules.index("groups:") :], "  ")


def main() -> int:
    """Write or check the file."""
    if "--check" in sys.argv[1:]:
        return int(OBJECT.read_text() != rendered())
    OBJECT.write_text(rendered())
    return 0


if __name__ == "__main__":
    sys.exit(main())
