"""Runs inside of workers: the standard library alone, and nothing else of this package."""
