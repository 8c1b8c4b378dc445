"""Several processes behind one address: the supervisor, its workers, and what they tell each other."""
