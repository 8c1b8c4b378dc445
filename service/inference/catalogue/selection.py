"""Which versions of a models folder are wanted: a policy for each model, labels, challengers."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from batchproof.service.configuration.settings import Settings
from batchproof.service.inference.catalogue.repository import BundleFolder


@dataclass(frozen=True)
class Policy:
    """Which versions of one model are served by their own right: so many of the newest, or those that are named."""

    newest: int | None = 1  # None: as many as there are
    pinned: frozenset[int] = frozenset()  # only these, even if there are newer ones

    @classmethod
    def of(cls, text: str | int) -> "Policy":
        """Return the policy that `newest`, `newest:2`, `all`, `3` or `3+4` means."""
        text = str(text)
        if text == "all":
            return cls(None)
        if text.startswith("newest"):
            return cls(int(text.partition(":")[2] or 1))
        return cls(None, frozenset(int(version) for version in text.split("+")))

    def wants(self, version: int | None, already: int) -> bool:
        """Return whether to serve a version after `already` newer ones; a bundle given directly has no version."""
        if self.pinned:
            return version is None or version in self.pinned
        return self.newest is None or already < self.newest


@dataclass(frozen=True)
class Selection:
    """What is wanted of a whole folder."""

    versions: str = "newest"
    pins: Mapping[str, str | int] = field(default_factory=dict)  # of single models, in place of `versions`
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # name -> label -> version
    shadows: Mapping[str, int] = field(default_factory=dict)  # name -> the version that is compared with the served one

    @classmethod
    def of(cls, settings: Settings) -> "Selection":
        """Return the selection that the settings describe."""
        labels: dict[str, dict[str, int]] = {}
        for name, version in settings.labels.items():
            model, _, label = name.rpartition(".")
            labels.setdefault(model, {})[label] = version
        return cls(settings.versions, settings.pins, labels, settings.shadow)

    def policy(self, name: str) -> Policy:
        """Return the policy of one model."""
        return Policy.of(self.pins.get(name, self.versions))

    def pinned(self) -> Iterable[tuple[str, int]]:
        """Yield each version that is pinned by number."""
        for name in self.pins:
            for version in sorted(self.policy(name).pinned):
                yield name, version

    def extras(self, name: str) -> frozenset[int]:
        """Return the versions that are wanted beside the policy's: those of labels, and a challenger."""
        labelled = frozenset(self.labels.get(name, {}).values())
        return labelled | ({self.shadows[name]} if name in self.shadows else frozenset())

    def walk(
        self,
        folders: Iterable[BundleFolder],
        take: Callable[[BundleFolder], int | None],
        kept: Callable[[BundleFolder], bool] = lambda _: False,
    ) -> dict[str, int]:
        """Call `take` for each wanted folder, newest first; it returns the version, or None where that cannot be served.

        `kept` names folders that are wanted whatever the policy says. Returns {name: version that answers where no
        version is named}: the newest that the policy wants.
        """
        counts: Counter[str] = Counter()
        defaults: dict[str, int] = {}
        for folder in folders:
            policy, name = self.policy(folder.name), folder.name
            is_challenger = not policy.pinned and self.shadows.get(name) == folder.version
            is_own = policy.wants(folder.version, counts[name]) and not (is_challenger and folder.version is not None)
            if not is_own and folder.version not in self.extras(name) and not kept(folder):
                continue
            version = take(folder)
            if version is not None and is_own:
                counts[name] += 1
                defaults.setdefault(name, version)
        return defaults
