"""model.onnx looked through without the onnx package."""

from service.manifest import Manifest


def check(model: bytes, manifest: Manifest) -> None:
    """Refuse what a bundle's graph may not hold; raises BundleError."""
