"""Weights & Biases: runs, keys and artifacts."""
