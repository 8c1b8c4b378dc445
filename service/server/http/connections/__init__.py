"""One connection: its requests and answers, and what it may cost."""
