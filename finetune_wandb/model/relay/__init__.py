"""Nouns of the relay: a job, what is remembered of it, its states, and the ports of a pass."""
