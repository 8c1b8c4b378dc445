"""Flags of a fit that takes a moment, for tests of everything around the fit."""


def quick(target: str, *, widths: int, epochs: int) -> list[str]:
    """Return the flags of one plain network with one hidden layer."""
    return [
        *("--target", target, "--widths", str(widths), "--epochs", str(epochs)),
        *("--ensemble", "1", "--encoding", "plain"),
    ]
