"""When a job is looked at, and what survives a crash."""
