"""The bounds on what one request, and all requests of a worker together, may cost."""

from batchproof.service.configuration.setting_fields import SettingsPart, setting


class BoundsSettings(SettingsPart):
    """How long, how many, and in what time."""

    max_body_bytes: int = setting(32 << 20, ge=1024, le=1 << 32, description="largest request body", unit="bytes")
    max_head_bytes: int = setting(
        64 << 10,
        ge=1024,
        le=1 << 24,
        description="largest URL and headers of a request together, and largest trailers; beyond it 414 or 431",
        unit="bytes",
    )
    max_headers: int = setting(
        200,
        ge=8,
        le=100_000,
        description="most headers of a request; beyond it 431",
        unit="headers",
    )
    max_inflight_bytes: int = setting(
        0,
        ge=0,
        le=1 << 40,
        description="most bytes of bodies in one worker: arriving, decompressed or not yet answered; beyond it 429. "
        "0: a quarter of the memory divided by the workers, at most 256 MiB. No body may be larger",
        unit="bytes",
    )
    max_rows: int = setting(100_000, ge=1, le=10_000_000, description="most rows of one request", unit="rows")
    max_table_bytes: int = setting(
        1 << 30,
        ge=1024,
        le=1 << 44,
        description="largest table that is streamed, packed or unpacked",
        unit="bytes",
    )
    read_timeout_s: float = setting(
        30.0,
        gt=0,
        le=3600,
        description="time for a request's headers and body to arrive; beyond it 408. A table has as long as it goes on",
        unit="s",
    )
    write_timeout_s: float = setting(
        30.0,
        gt=0,
        le=3600,
        description="time in which a caller must read part of a waiting answer, 1 KiB for each second; beyond "
        "it the connection is closed",
        unit="s",
    )
    keep_alive_s: int = setting(
        75,
        ge=1,
        le=86400,
        description="time that an idle HTTP connection stays open after an answer; must be longer than the load balancer keeps "
        "its idle connections",
        unit="s",
    )
