"""What W&B is told about a job: rows, summary, attributes, alerts."""
