"""Azure: ARM, Key Vault, Event Grid and the fine-tuning API."""
