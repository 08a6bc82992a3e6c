"""Spans, log records and measurements in OpenTelemetry's own form: the only code that knows its SDK."""
