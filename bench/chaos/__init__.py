"""Every protocol at once against a service whose workers are killed, stopped and reloaded: each answer must be right."""
