"""From the host's threads to our own: what is recorded is queued here, and taken from here."""
