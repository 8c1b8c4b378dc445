"""From settings to loaded models, at the start and at each reload."""
