"""The app's own tables and queues."""
