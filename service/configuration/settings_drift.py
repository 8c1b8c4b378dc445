"""The settings of drift."""

from pydantic import Field

from batchproof.service.configuration.settings_bounds import SettingsPart


class DriftSettings(SettingsPart):
    """How much is counted to find drift, and over which time."""

    drift_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the answered requests whose rows are counted to find drift, up to 1024 rows a second in each "
        "worker, beyond which rows are passed over; 0: none",
    )
    drift_short_s: float = Field(
        3600.0, ge=1, le=86400 * 31, description="length of the short windows of drift", json_schema_extra={"unit": "s"}
    )
    drift_long_s: float = Field(
        86400.0, ge=1, le=86400 * 366, description="length of the long ones", json_schema_extra={"unit": "s"}
    )
