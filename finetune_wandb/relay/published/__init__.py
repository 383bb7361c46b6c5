"""What Azure publishes about a job: events, checkpoints, result files."""
