"""What a finished job leaves behind, as W&B artifacts."""
