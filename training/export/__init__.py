"""Export a folded network: to a float32 graph (`float32`) or exact graph (`exact`), and into a bundle (`bundle_writer`)."""
