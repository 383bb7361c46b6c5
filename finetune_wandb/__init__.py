"""The product: checks and applies the W&B integration of accounts, and relays metrics of jobs."""
