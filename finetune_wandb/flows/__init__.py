"""What one message, tick or request sets in motion."""
