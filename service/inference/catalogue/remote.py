"""Bundles at an address: a child process lists and fetches what is wanted; this process checks it and gives it a name.

Nothing but the child uses the network: a store's library may start threads, hang or crash there. Versions that are not
wanted are not fetched, and none is fetched twice.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from batchproof.service.bundle import reader
from batchproof.service.bundle.signing.trust import TrustPolicy
from batchproof.service.configuration.address import Address
from batchproof.service.errors import BundleError
from batchproof.service.inference.catalogue.repository import BundleFolder, Refusal, version_of
from batchproof.service.inference.catalogue.selection import Selection
from batchproof.service.runtime import child_process
from batchproof.service.runtime.child_process import Bounds
from batchproof.service.runtime.logs import event
from batchproof.service.stores import cache
from batchproof.service.stores.cache import Fetched
from batchproof.service.stores.opening import open_store
from batchproof.service.stores.store import MissingError, Store, StoreError

BOUNDS = Bounds(memory_bytes=2 << 30, seconds=600)  # of the child: all that is wanted, fetched
DAMAGED = "the copy in the cache is damaged"
REFUSED_S = 600.0  # for so long a bundle that was refused is not fetched again
_refused: dict[str, tuple[float, str]] = {}  # name in the cache -> until when, and why
_checked: dict[Path, object] = {}  # folder in the cache -> its stamp when this process checked it


def scan(
    address: Address, selection: Selection, trust: TrustPolicy | None = None
) -> tuple[list[BundleFolder], list[Refusal]]:
    """Return the wanted bundles at `address`, by now in the cache, newest first, and what there has no version's name.

    A bundle that is not sound comes with its fault. Raises BundleError where the address cannot be read in full: half a
    view would let an older version take the place of a newer one. What was whole by then stays in the cache.
    """
    kept = cache.folder("bundles")
    cache.clear_parts(kept)
    folders, refusals = _look(address, selection, trust, kept)
    if any(folder.fault == DAMAGED for folder in folders):  # it is not in the cache any more, unless that is broken
        folders, refusals = _look(address, selection, trust, kept)
    return folders, refusals


def _look(
    address: Address, selection: Selection, trust: TrustPolicy | None, kept: Path
) -> tuple[list[BundleFolder], list[Refusal]]:
    with cache.new_part(kept) as part:
        answer = _ask_child(address, selection, kept, part)
        folders = [_named(kept, trust, address, *fetched) for fetched in answer["folders"]]
    if answer["fault"]:
        raise BundleError(answer["fault"])
    return folders, [Refusal(*refusal) for refusal in answer["refusals"]]


def _ask_child(address: Address, selection: Selection, kept: Path, part: Path) -> dict[str, Any]:
    now_s = time.monotonic()
    refused = {name: why for name, (until_s, why) in _refused.items() if now_s < until_s}
    try:
        text = child_process.run(fetch_wanted, address, selection, kept, part, refused, bounds=BOUNDS)
    except child_process.ChildError as error:
        raise BundleError(f"fetching bundles from {address} {error}") from error
    answer: dict[str, Any] = json.loads(text)
    return answer


def _named(
    kept: Path, trust: TrustPolicy | None, address: Address, name: str, version: int | None, fault: str, fetched: Any
) -> BundleFolder:
    """Check a bundle and its signature, and only then give it its name in the cache if it is new."""
    if fault:
        return BundleFolder(name, version, kept, fault)
    part = Fetched(Path(fetched[0]), *fetched[1:])
    if not part.is_new and _checked.get(part.folder) == cache.stamp_of(part.folder):
        return BundleFolder(name, version, part.folder)
    try:
        reader.read(part.folder, trust=trust)
    except BundleError as error:
        if not part.is_new:
            cache.discard(part.folder)
            return BundleFolder(name, version, kept, DAMAGED)
        why = str(error).replace(str(part.folder), str(address))
        _refused[part.name] = (time.monotonic() + REFUSED_S, why)
        return BundleFolder(name, version, kept, why)
    folder = part.folder
    if part.is_new:
        folder = cache.keep(kept, part)
        event("bundle_fetched", address=str(address), folder=str(folder), bytes=part.bytes)
    _checked[folder] = cache.stamp_of(folder)
    return BundleFolder(name, version, folder)


def fetch_wanted(address: Address, selection: Selection, kept: Path, part: Path, refused: Mapping[str, str]) -> str:
    """Fetch what is wanted into `part`, in a child process; returns JSON: the folders, refusals, or why there is nothing."""
    answer: dict[str, Any] = {"fault": "", "folders": [], "refusals": []}
    try:
        store = open_store(address)
        listed, refusals = named(address, store.folders())
        if not listed and not refusals:
            answer["fault"] = f"{address} holds no bundle: no bundle.json was found"
        answer["refusals"] = [[one.name, one.version, one.message] for one in refusals]
        fetch = partial(_fetch, store, kept, part, refused)
        selection.walk(listed, partial(_take, fetch, answer["folders"]))
    except BundleError as error:
        answer["fault"] = str(error)
    return json.dumps(answer)


def _fetch(
    store: Store, kept: Path, part: Path, refused: Mapping[str, str], listed: BundleFolder, place: int
) -> Fetched:
    path = "" if listed.folder == Path() else listed.folder.as_posix()
    return cache.fetch(store, path, kept, part / str(place), refused)


def _take(fetch: Callable[[BundleFolder, int], Fetched], folders: list[Any], listed: BundleFolder) -> int | None:
    """Fetch one bundle and note what came of it; raises StoreError where the store failed, not the bundle."""
    try:
        fetched = fetch(listed, len(folders))
    except BundleError as error:
        if isinstance(error, StoreError) and not isinstance(error, MissingError):
            raise
        folders.append([listed.name, listed.version, str(error), None])
        return None
    part = [str(fetched.folder), fetched.name, fetched.is_new, fetched.bytes]
    folders.append([listed.name, listed.version, "", part])
    return listed.version or 1


def named(address: Address, folders: Sequence[str]) -> tuple[list[BundleFolder], list[Refusal]]:
    """Return which model and version each folder at `address` is, newest first, as for folders of this machine.

    An address of one bundle has the folder "" or, in MLflow's registry, one that its path does not name.
    """
    if "" in folders or address.scheme == "mlflow":
        return [BundleFolder(address.name, None, Path(folders[0]))], []
    listed: list[BundleFolder] = []
    refusals: list[Refusal] = []
    for folder in folders:
        path = Path(folder)
        name = path.parent.name or address.name
        version = version_of(path.name)
        if len(path.parts) > 2:
            refusals.append(Refusal(name, None, f"{address}/{folder} is too deep: a bundle is at NAME/VERSION"))
        elif version is None:
            refusals.append(Refusal(name, None, f"{address}/{folder}: a version is a positive whole number such as 1"))
        else:
            listed.append(BundleFolder(name, version, path))
    return sorted(listed, key=lambda folder: (folder.name, -(folder.version or 0))), refusals
