"""Random faults against the full stack, and the truth compared afterwards; docs/reliability.md."""
