"""The bundle folder, read as untrusted input: bounds first, then the seal, the file set, the checksums, the fields.

Every way in which a folder can be wrong is a BundleError whose sentence names the file and the field.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from batchproof.service.bundle.files import strict_json
from batchproof.service.bundle.files.checksum import is_intact
from batchproof.service.bundle.files.records import Invalid
from batchproof.service.bundle.files.safe_folder import Folder, opened
from batchproof.service.bundle.graph import check as graph_check
from batchproof.service.bundle.graph.nodes import Graph
from batchproof.service.bundle.manifest import FORMAT, NAME_PATTERN, READABLE_VERSIONS, REFERENCE_FILE, Manifest
from batchproof.service.bundle.rows import golden
from batchproof.service.bundle.rows.golden import Golden
from batchproof.service.bundle.signing import SIGNATURE_BYTES, SIGNATURE_FILE
from batchproof.service.errors import BundleError

if TYPE_CHECKING:
    from batchproof.service.bundle.rows.reference import Reference
    from batchproof.service.bundle.signing.trust import Signed, TrustPolicy

REQUIRED = frozenset({"model.onnx", "golden.json"})
WEIGHTS = frozenset({"model.onnx", "weights.safetensors"})  # as large as the model
OPTIONAL = frozenset({"report.html", "weights.safetensors"})  # hashed, never parsed here
OPTIONAL_SINCE_2 = frozenset({REFERENCE_FILE})  # read and checked where it is there
_READABLE = f"{READABLE_VERSIONS[0]} to {READABLE_VERSIONS[-1]}"
REPORT_BYTES = 8 << 20  # the largest report that is sent


@dataclass(frozen=True)
class Limits:
    """The most bytes that a file of a bundle may have."""

    model_bytes: int = 512 << 20
    json_bytes: int = 16 << 20
    other_bytes: int = 2 << 30


@dataclass(frozen=True)
class Bundle:
    """A checked bundle: nothing in it has been run yet."""

    folder: Path
    manifest: Manifest
    model: bytes  # model.onnx, serialised
    graph: Graph  # the same, read
    golden: Golden
    signer: str | None = None  # who signed all files, where signatures are checked
    unsigned: str | None = None  # why no signature counts, where one is wanted but not required
    reference: "Reference | None" = None  # statistics of the training rows, where the bundle has them


def read(folder: Path, limits: Limits | None = None, trust: "TrustPolicy | None" = None) -> Bundle:
    """Read and check the bundle in `folder`; raises BundleError for everything that is not as docs/bundle.md says.

    Signatures are not looked at without `trust`. Where it requires one, that is checked first, and nothing else of an
    untrusted folder is parsed.
    """
    limits = limits or Limits()
    with opened(folder) as files:
        raw = files.read("bundle.json", limits.json_bytes)
        signed, unsigned = _signed(files, raw, trust)
        manifest = parse_manifest(raw)
        if signed:
            signed.check_entries({name: entry.sha256 for name, entry in manifest.files.items()})
        check_listed(manifest)
        _check_present(manifest, files.names() - {SIGNATURE_FILE})
        model = _checked(files, manifest, "model.onnx", limits.model_bytes)
        golden_raw = _checked(files, manifest, "golden.json", limits.json_bytes)
        statistics_raw = _statistics(files, manifest, limits.json_bytes)
        for name in OPTIONAL & manifest.files.keys():
            _check_entry(manifest, name, *files.digest(name, limits.other_bytes))
    graph = graph_check.check(model, manifest)
    signer = signed.signer if signed else None
    statistics = _reference(statistics_raw, manifest) if statistics_raw is not None else None
    return Bundle(folder, manifest, model, graph, golden.parse(golden_raw, manifest), signer, unsigned, statistics)


def unchecked_name(folder: Path, limits: Limits | None = None) -> str | None:
    """Return the model's name in bundle.json before anything is checked; None if there is no valid name.

    It serves to find the bundle's siblings: `read` decides whether the bundle is one.
    """
    try:
        with opened(folder) as files:
            content = orjson.loads(files.read("bundle.json", (limits or Limits()).json_bytes))
    except (BundleError, ValueError):
        return None
    name = content.get("name") if isinstance(content, dict) else None
    return name if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name) else None


def report(bundle: Bundle, max_bytes: int = REPORT_BYTES) -> bytes:
    """Read report.html again; raises BundleError if it is no longer the file whose checksum was verified."""
    if "report.html" not in bundle.manifest.files:
        raise BundleError("the bundle has no report.html")
    with opened(bundle.folder) as files:
        return _checked(files, bundle.manifest, "report.html", max_bytes)


def file(bundle: Bundle, name: str) -> bytes:
    """Read a file of a bundle again, bundle.json included; raises BundleError if it is no longer the one that was verified."""
    limits = Limits()
    with opened(bundle.folder) as files:
        if name != "bundle.json":
            most = limits.model_bytes if name in WEIGHTS else limits.json_bytes
            return _checked(files, bundle.manifest, name, most)
        raw = files.read(name, limits.json_bytes)
    if not is_intact(raw, bundle.manifest.sha256):
        raise BundleError("bundle.json is no longer the one that was verified")
    return raw


def signature(bundle: Bundle) -> bytes | None:
    """Read the signature beside a bundle, for whoever checks it; None where there is none."""
    with opened(bundle.folder) as files:
        return files.read(SIGNATURE_FILE, SIGNATURE_BYTES) if SIGNATURE_FILE in files.names() else None


def _signed(files: Folder, manifest_raw: bytes, trust: "TrustPolicy | None") -> tuple["Signed | None", str | None]:
    """Return the signature that counts, or why none does; raises BundleError where one is required."""
    if trust is None:
        return None, None
    try:
        signed = trust.signed(files)
        signed.check_names(files.names() - {SIGNATURE_FILE})
        signed.check("bundle.json", hashlib.sha256(manifest_raw).hexdigest())
    except BundleError as error:
        if trust.mode == "require":
            raise
        return None, str(error)
    return signed, None


def parse_manifest(raw: bytes) -> Manifest:
    """Return the manifest that bundle.json holds, its seal checked; raises BundleError."""
    try:
        content = strict_json.loads(raw)
    except ValueError as error:
        raise BundleError(f"bundle.json {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BundleError(f'bundle.json is not a bundle\'s: its field format must be "{FORMAT}"')
    version = content.get("format_version")
    if type(version) is not int or version not in READABLE_VERSIONS:
        raise BundleError(f"bundle.json has format_version {version!r:.40}; this service reads {_READABLE}")
    try:
        manifest = Manifest.model_validate(content)
    except Invalid as error:
        raise BundleError(f"bundle.json: {_first_problem(error)}") from error
    if not is_intact(raw, manifest.sha256):
        raise BundleError("bundle.json does not match its own sha256: it was changed after it was written")
    return manifest


def _first_problem(fault: Invalid) -> str:
    field = ".".join(map(str, fault.place)) or "the whole"
    return f"{' '.join(field.split())[:200]}: {fault.what[:200]}"


def check_listed(manifest: Manifest) -> None:
    """Raise BundleError unless bundle.json lists the files of a bundle, and no others."""
    listed = set(manifest.files)
    allowed = REQUIRED | OPTIONAL | (OPTIONAL_SINCE_2 if manifest.format_version > 1 else frozenset())
    for name in sorted(listed - allowed):
        version = manifest.format_version
        raise BundleError(
            f"bundle.json lists {name!r:.80}; a bundle of format version {version} holds only {_names(allowed)}"
        )
    for name in sorted(REQUIRED - listed):
        raise BundleError(f"bundle.json does not list {name}")


def _check_present(manifest: Manifest, present: set[str]) -> None:
    listed = set(manifest.files)
    for name in sorted(listed - present):
        raise BundleError(f"{name} is missing: bundle.json lists it")
    for name in sorted(present - listed - {"bundle.json"}):
        raise BundleError(f"{name!r:.80} is in the folder but bundle.json does not list it")


def _statistics(files: Folder, manifest: Manifest, max_bytes: int) -> bytes | None:
    """Return reference.json, checked; None where the bundle has none."""
    if REFERENCE_FILE not in manifest.files:
        return None
    return _checked(files, manifest, REFERENCE_FILE, max_bytes)


def _reference(raw: bytes, manifest: Manifest) -> "Reference":
    from batchproof.service.bundle.rows import reference  # many bundles have none

    return reference.parse(raw, manifest)


def _checked(files: Folder, manifest: Manifest, name: str, max_bytes: int) -> bytes:
    raw = files.read(name, max_bytes)
    _check_entry(manifest, name, hashlib.sha256(raw).hexdigest(), len(raw))
    return raw


def _check_entry(manifest: Manifest, name: str, sha256: str, size: int) -> None:
    entry = manifest.files[name]
    if size != entry.bytes:
        raise BundleError(f"{name} has {size} bytes, but bundle.json says {entry.bytes}")
    if sha256 != entry.sha256:
        raise BundleError(f"{name} has SHA-256 {sha256}, but bundle.json says {entry.sha256}")


def _names(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
