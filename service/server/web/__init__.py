"""What people and tools read: pages, descriptions of models, the OpenAPI document, reports. Loaded on first use."""
