"""Run a checked bundle: repository (models on disk), registry (loaded models), engine session, runner, batcher, admission."""
