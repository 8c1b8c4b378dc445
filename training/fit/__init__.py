"""The training loop of one fit (`loop`), its checkpoint and progress, and the choice among fits (`selection`)."""
