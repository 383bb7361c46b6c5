"""Stand-ins for Azure and W&B over real HTTP; only tests, the demo and benchmarks use them."""
