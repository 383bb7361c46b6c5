"""Benchmarks: each claim about speed as a figure that anyone can measure again."""
