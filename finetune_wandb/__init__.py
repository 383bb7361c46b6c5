"""The product: checks and applies the W&B integration of accounts, and relays the metrics of jobs."""
