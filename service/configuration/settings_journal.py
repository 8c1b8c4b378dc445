"""The settings of the journal."""

from typing import Literal

from batchproof.service.configuration.address import EXAMPLES, OBJECT_SCHEMES, Address, root_of
from batchproof.service.configuration.setting_fields import SettingsPart, setting
from batchproof.service.configuration.setting_sources import texts


def _check_address(value: str) -> None:
    address = root_of(value) if value else None
    if address is None or (isinstance(address, Address) and address.scheme in OBJECT_SCHEMES):
        return
    raise ValueError(f"an address in an object store, such as {EXAMPLES['s3']}, {EXAMPLES['gs']} or {EXAMPLES['az']}")


class JournalSettings(SettingsPart):
    """What is kept of each answer, where, and for how long."""

    journal: str = setting("", description="folder of the journal, which records every answer; empty: no journal")
    journal_full: Literal["drop", "refuse"] = setting(
        "drop",
        description="what happens if the journal's disk is full or too slow: answers are sent, and their rows are dropped and "
        "counted; or an answer that cannot be written is not sent, and its caller gets 503",
    )
    journal_share: float = setting(
        1.0, gt=0, le=1, description="share of the requests that the journal records, chosen at random"
    )
    journal_leave_out: tuple[str, ...] = setting(
        (), read=texts, description="features that the journal does not record, separated by commas"
    )
    journal_hash: tuple[str, ...] = setting(
        (),
        read=texts,
        description="features for which the journal records a keyed hash instead of the value, separated by commas",
    )
    journal_hash_key: str = setting("", description="file of the secret key of those hashes, at least 16 bytes")
    journal_segment_bytes: int = setting(
        64 << 20,
        ge=1024,
        le=1 << 40,
        description="size at which a segment of the journal is finished and the next one begins",
        unit="bytes",
    )
    journal_segment_s: float = setting(
        3600.0, ge=1, le=86400 * 366, description="age at which a segment is finished", unit="s"
    )
    journal_keep_s: float = setting(
        0.0,
        ge=0,
        le=86400 * 36600,
        description="time after its last row at which a segment is removed, more than journal_segment_s; 0: never",
        unit="s",
    )
    journal_sync: Literal["never", "batch"] = setting(
        "never",
        description="when rows are forced to the disk: by the system, so that rows survive a crash of the service; or "
        "after each batch, so that they also survive a loss of power",
    )
    journal_upload: str = setting(
        "",
        check=_check_address,
        description="address of a folder in an object store, such as s3://bucket/journal, that finished segments are uploaded "
        "to; empty: they stay in the folder only",
    )
    journal_key: str = setting("", description="PEM file of the private key that signs finished segments")

    journal_search: Literal["auto", "yes", "no"] = setting(
        "auto",
        description="whether callers with the scope admin may look a request up in the journal, as the page Watch does; auto: "
        "where keys are needed",
    )
