"""What only a laptop needs: stand-ins, the local host, commands and benchmarks. Never deployed."""
