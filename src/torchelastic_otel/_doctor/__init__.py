"""``torchelastic-otel doctor``: would telemetry arrive from here, and if not, why."""
