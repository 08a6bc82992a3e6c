"""What variables say: read and checked, told where wrong. Nothing is made here."""
