"""A checked bundle made to run: session, runs, queue, registry."""
