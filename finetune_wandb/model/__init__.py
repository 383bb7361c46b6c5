"""Shared nouns: frozen, typed, without I/O."""
