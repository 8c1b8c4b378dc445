"""What a client prefers: Accept and Accept-Encoding, by quality and by wildcards (RFC 9110, 12.4 and 12.5)."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

EVERYTHING = b"*/*"


@lru_cache(64)
def qualities(value: bytes) -> Mapping[bytes, float]:
    """Return {name in lower case: quality from 0 to 1}, in the header's order; a quality that is not a number is 1."""
    by_name = {}
    for offer in value.lower().split(b","):
        name, *parameters = (part.strip() for part in offer.split(b";"))
        if name:
            by_name[name] = _quality(parameters)
    return by_name


@lru_cache(256)
def preferred(accept: bytes | None, offered: tuple[str, ...]) -> str | None:
    """Return the media type among `offered` that Accept prefers; None where it names none of them.

    Of types that are as good, one that is named goes before one that a wildcard covers, then the one that Accept names
    first, then the one that is offered first.
    """
    ranges = qualities(accept or EVERYTHING) or {EVERYTHING: 1.0}
    order = {name: place for place, name in enumerate(ranges)}
    candidates = []
    for place, media_type in enumerate(offered):
        match = _match(media_type.encode(), ranges)
        if match is not None and ranges[match] > 0:
            candidates.append((-ranges[match], match.count(b"*"), order[match], place))
    return offered[min(candidates)[-1]] if candidates else None


def _match(media_type: bytes, ranges: Mapping[bytes, float]) -> bytes | None:
    """Return the most specific range that covers the media type."""
    group = media_type.partition(b"/")[0] + b"/*"
    return next((name for name in (media_type, group, EVERYTHING) if name in ranges), None)


def _quality(parameters: Iterable[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                quality = float(value)
            except ValueError:
                return 1.0
            return min(max(quality, 0.0), 1.0) if quality == quality else 1.0  # noqa: PLR0124 - NaN
    return 1.0
