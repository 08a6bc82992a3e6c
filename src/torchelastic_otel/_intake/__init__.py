"""From the host's threads to our own: events and facts are queued here, and taken from here."""
