"""Ask a service for predictions from Python: rows or a frame in, predictions or a frame of the same kind out.

    from batchproof import Client

    with Client("http://127.0.0.1:8000", "penguins") as client:
        client.predict({"island": "Biscoe", "bill_length_mm": 47.1, ...})   # {"label": "Gentoo", "probabilities": {...}}
        client.predict(frame)                                               # the frame and its predictions

It needs only the standard library, and numpy where frames are sent; `AsyncClient` needs httpx. Nothing of the
server is loaded.
"""

from batchproof.service.client.async_client import AsyncClient
from batchproof.service.client.messages import RefusedError
from batchproof.service.client.retries import Retries
from batchproof.service.client.sync_client import Client

__all__ = ["AsyncClient", "Client", "RefusedError", "Retries"]
