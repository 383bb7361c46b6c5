"""Which version of a W&B key is in use: proof, rotation."""
