"""What the commands do beside the doctor."""
