"""What is recorded and not delivered yet, on the node's disk: one SQLite file per process."""

from .files import (
    ClosedError,
    SpoolError,
    UnreadableError,
    default_directory,
    directory_of,
    leave_to_parent,
    on_network_filesystem,
)
from .items import Destination, Item, assemble, assemble_readable, destination_of, fitting
from .orphans import Closed, open_store, orphans, stores_in
from .room import make_room
from .spool import Spool
from .sqlite import DamagedError, ForeignError
from .store import UNREADABLE, Held

__all__ = [
    "UNREADABLE",
    "Closed",
    "ClosedError",
    "DamagedError",
    "Destination",
    "ForeignError",
    "Held",
    "Item",
    "Spool",
    "SpoolError",
    "UnreadableError",
    "assemble",
    "assemble_readable",
    "default_directory",
    "destination_of",
    "directory_of",
    "fitting",
    "leave_to_parent",
    "make_room",
    "on_network_filesystem",
    "open_store",
    "orphans",
    "stores_in",
]
