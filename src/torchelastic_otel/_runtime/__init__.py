"""Living in somebody else's process: the guard at the boundary, loading beside the host, own threads."""
