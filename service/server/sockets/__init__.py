"""The addresses that a service listens on, and its certificates."""
