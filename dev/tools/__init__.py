"""Commands for people and tests around the app: the local stack, the demo. Never deployed."""
