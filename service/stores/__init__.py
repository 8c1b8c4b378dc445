"""Bundles at addresses: listed in an object store, on the web, on a hub or in MLflow, and fetched into a cache."""
