"""What is recorded and not delivered yet, on the node's disk: one SQLite file per process."""

from .files import SpoolError, default_directory, directory_of, on_network_filesystem
from .items import Destination, Item, assemble, assemble_readable, destination_of, fitting
from .orphans import make_room, orphans
from .spool import Held, Spool

__all__ = [
    "Destination",
    "Held",
    "Item",
    "Spool",
    "SpoolError",
    "assemble",
    "assemble_readable",
    "default_directory",
    "destination_of",
    "directory_of",
    "fitting",
    "make_room",
    "on_network_filesystem",
    "orphans",
]
