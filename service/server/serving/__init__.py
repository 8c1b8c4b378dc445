"""What is served, and the gate that every request passes on its way to it."""
