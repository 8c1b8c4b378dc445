"""Everything that people and tools read: the start page, the API page, models, metrics. Loaded on first use."""

from batchproof.service.server.web.site import make_pages

__all__ = ["make_pages"]
