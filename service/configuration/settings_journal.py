"""The settings of the journal."""

from typing import Any, Literal

from pydantic import Field, field_validator

from batchproof.service.configuration.address import EXAMPLES, OBJECT_SCHEMES, Address, root_of
from batchproof.service.configuration.settings_bounds import SettingsPart


class JournalSettings(SettingsPart):
    """What is kept of each answer, where, and for how long."""

    journal: str = Field("", description="folder of the journal, which records every answer; empty: no journal")
    journal_full: Literal["drop", "refuse"] = Field(
        "drop",
        description="what happens if the journal's disk is full or too slow: answers are sent, and their rows are dropped and "
        "counted; or an answer that cannot be written is not sent, and its caller gets 503",
    )
    journal_share: float = Field(
        1.0, gt=0, le=1, description="share of the requests that the journal records, chosen at random"
    )
    journal_leave_out: tuple[str, ...] = Field(
        (), description="features that the journal does not record, separated by commas"
    )
    journal_hash: tuple[str, ...] = Field(
        (), description="features for which the journal records a keyed hash instead of the value, separated by commas"
    )
    journal_hash_key: str = Field("", description="file of the secret key of those hashes, at least 16 bytes")
    journal_segment_bytes: int = Field(
        64 << 20,
        ge=1024,
        le=1 << 40,
        description="size at which a segment of the journal is finished and the next one begins",
        json_schema_extra={"unit": "bytes"},
    )
    journal_segment_s: float = Field(
        3600.0, ge=1, le=86400 * 366, description="age at which a segment is finished", json_schema_extra={"unit": "s"}
    )
    journal_keep_s: float = Field(
        0.0,
        ge=0,
        le=86400 * 36600,
        description="time after its last row at which a segment is removed, more than journal_segment_s; 0: never",
        json_schema_extra={"unit": "s"},
    )
    journal_sync: Literal["never", "batch"] = Field(
        "never",
        description="when rows are forced to the disk: by the system, so that rows survive a crash of the service; or "
        "after each batch, so that they also survive a loss of power",
    )
    journal_upload: str = Field(
        "",
        description="address of a folder in an object store, such as s3://bucket/journal, that finished segments are uploaded "
        "to; empty: they stay in the folder only",
    )
    journal_key: str = Field("", description="PEM file of the private key that signs finished segments")

    journal_search: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="whether callers with the scope admin may look a request up in the journal, as the page Watch does; auto: "
        "where keys are needed",
    )

    @field_validator("journal_upload")
    @classmethod
    def _address(cls, value: str) -> str:
        address = root_of(value) if value else None
        if address is None or (isinstance(address, Address) and address.scheme in OBJECT_SCHEMES):
            return value
        raise ValueError(
            f"an address in an object store, such as {EXAMPLES['s3']}, {EXAMPLES['gs']} or {EXAMPLES['az']}"
        )

    @field_validator("journal_leave_out", "journal_hash", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
