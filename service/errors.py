"""What can go wrong, by who has to act: the bundle's author, the operator, or the caller."""


class BundleError(Exception):
    """A bundle that is refused: the sentence names the file and the field."""


class EngineError(Exception):
    """An engine that is not installed, has no such device, cannot load a graph, or failed while running."""


class FeatureError(Exception):
    """Columns that do not fit the signature: the sentence names the row and the feature."""
