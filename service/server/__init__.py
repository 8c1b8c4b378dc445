"""One process that serves: composition, transports, pages, life cycle."""
