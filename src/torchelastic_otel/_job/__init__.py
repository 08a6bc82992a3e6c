"""What happened to a job, understood from its events and from what its agent did."""
