"""The package's version, as installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("torchelastic-otel")
except PackageNotFoundError:  # a source tree that is on the path but not installed
    __version__ = "0+unknown"
