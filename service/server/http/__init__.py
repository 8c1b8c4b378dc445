"""HTTP: connections, routing, health, metrics."""
