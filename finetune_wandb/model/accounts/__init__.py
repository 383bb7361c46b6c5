"""Nouns of accounts: an account, its vault and key, findings and reports, the ports of a check."""
