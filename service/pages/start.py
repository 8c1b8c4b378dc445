"""The start page: what is served here, and where to go."""

from service.app import Service


def page(service: Service) -> str:
    return "<h1>Batchproof</h1>"
