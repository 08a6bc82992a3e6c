"""Tests, and the library that they share."""
