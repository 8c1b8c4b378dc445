"""The keys in force. Apart from their file, so that a service without keys loads nothing that reads one."""

import hashlib
from collections.abc import Mapping, Sequence

from batchproof.service.access.grant import CallerCounts, Grant
from batchproof.service.access.patterns import CertifiedName, certifies
from batchproof.service.access.quota import Account

PREFIX = "bp_"


class KeyRing:
    """The keys in force: SHA-256 of a key -> what it grants."""

    def __init__(
        self,
        grants: Mapping[bytes, Grant],
        accounts: Mapping[str, Account],
        counts: Mapping[str, CallerCounts] | None = None,
        certified: Sequence[tuple[str, Grant]] = (),
    ) -> None:
        """Hold the grants by the raw digest, those by patterns of certificates, accounts and counts by the owner's name."""
        self._grants = grants
        self._certified = certified
        self.accounts = accounts
        self.counts = counts or {}  # of removed owners too: counters never fall

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._grants) + len(self._certified)

    def grant(self, key: bytes) -> Grant | None:
        """Return what a presented key grants; None for one that is not in the file.

        A look-up by digest: what its time could tell is the digest of a guess, not the key.
        """
        return self._grants.get(hashlib.sha256(key).digest())

    def certified(self, names: Sequence[CertifiedName]) -> Grant | None:
        """Return what a client certificate with these names grants; the first entry that fits decides."""
        for pattern, grant in self._certified:
            if certifies(names, pattern):
                return grant
        return None
