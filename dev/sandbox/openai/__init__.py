"""The fine-tuning API and the training that it shows."""
