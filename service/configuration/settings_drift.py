"""The settings of drift."""

from batchproof.service.configuration.setting_fields import SettingsPart, setting


class DriftSettings(SettingsPart):
    """How much is counted to find drift, and over which time."""

    drift_share: float = setting(
        1.0,
        ge=0,
        le=1,
        description="share of the answered requests whose rows are counted to find drift, up to 1024 rows a second in each "
        "worker, beyond which rows are passed over; 0: none",
    )
    drift_short_s: float = setting(
        3600.0, ge=1, le=86400 * 31, description="length of the short windows of drift", unit="s"
    )
    drift_long_s: float = setting(86400.0, ge=1, le=86400 * 366, description="length of the long ones", unit="s")
