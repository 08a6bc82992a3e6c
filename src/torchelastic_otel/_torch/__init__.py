"""The only code that knows torch: where its events go, and what its agent does."""
