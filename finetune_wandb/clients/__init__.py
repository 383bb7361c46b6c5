"""The only code that talks to the network; one service per file."""
