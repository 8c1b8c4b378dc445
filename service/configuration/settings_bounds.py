"""The bounds on what one request, and all requests of a worker together, may cost."""

from pydantic import BaseModel, ConfigDict, Field


class SettingsPart(BaseModel):
    """A part of all settings: pydantic builds a validator for the whole when settings are read, and none for a part."""

    model_config = ConfigDict(defer_build=True)


class BoundsSettings(SettingsPart):
    """How long, how many, and in what time."""

    max_body_bytes: int = Field(
        32 << 20, ge=1024, le=1 << 32, description="largest request body", json_schema_extra={"unit": "bytes"}
    )
    max_head_bytes: int = Field(
        64 << 10,
        ge=1024,
        le=1 << 24,
        description="largest URL and headers of a request together, and largest trailers; beyond it 414 or 431",
        json_schema_extra={"unit": "bytes"},
    )
    max_headers: int = Field(
        200,
        ge=8,
        le=100_000,
        description="most headers of a request; beyond it 431",
        json_schema_extra={"unit": "headers"},
    )
    max_inflight_bytes: int = Field(
        0,
        ge=0,
        le=1 << 40,
        description="most bytes of bodies in one worker: arriving, decompressed or not yet answered; beyond it 429. "
        "0: a quarter of the memory divided by the workers, at most 256 MiB. No body may be larger",
        json_schema_extra={"unit": "bytes"},
    )
    max_rows: int = Field(
        100_000, ge=1, le=10_000_000, description="most rows of one request", json_schema_extra={"unit": "rows"}
    )
    max_table_bytes: int = Field(
        1 << 30,
        ge=1024,
        le=1 << 44,
        description="largest table that is streamed, packed or unpacked",
        json_schema_extra={"unit": "bytes"},
    )
    read_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="time for a request's headers and body to arrive; beyond it 408. A table has as long as it goes on",
        json_schema_extra={"unit": "s"},
    )
    write_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="time in which a caller must read part of a waiting answer, 1 KiB for each second; beyond "
        "it the connection is closed",
        json_schema_extra={"unit": "s"},
    )
    keep_alive_s: int = Field(
        75,
        ge=1,
        le=86400,
        description="time that an idle HTTP connection stays open after an answer; must be longer than the load balancer keeps "
        "its idle connections",
        json_schema_extra={"unit": "s"},
    )
