"""The training loop and what surrounds one fit."""
