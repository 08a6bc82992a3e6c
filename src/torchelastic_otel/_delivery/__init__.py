"""Bytes in, a backend has them: kept on the node's disk until they are delivered."""
