"""What the bridge costs: ratios in one run, medians, no verdicts."""
