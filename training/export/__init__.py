"""From a fitted network to a bundle."""
