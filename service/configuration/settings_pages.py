"""The settings of the pages for people, and of the files that a page may load: docs/pages.md."""

from typing import Literal

from batchproof.service.configuration.setting_fields import SettingsPart, setting


class PagesSettings(SettingsPart):
    """What a browser gets."""

    pages: bool = setting(True, description="pages for people: what is served, how it does, the API; false: none")
    share_bundles: Literal["auto", "yes", "no"] = setting(
        "auto",
        description="whether callers who may read about a model may load its files, as the page Try does to predict in the "
        "browser; auto: where keys are needed, or the host is the loopback address",
    )
