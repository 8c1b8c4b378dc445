"""What every process uses: events in a log, counts, and work within bounds of memory and time."""
