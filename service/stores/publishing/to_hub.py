"""Push into a repository of the Hugging Face Hub, or of another server that HF_ENDPOINT names: one commit, with its card.

Fetching needs two HTTP routes; writing needs the Hub's large file storage, so its own client does it.
"""

import os
from collections.abc import Mapping
from typing import Any, Literal

from batchproof.service.bundle.documents.card import model_card
from batchproof.service.bundle.documents.statement import Statement
from batchproof.service.bundle.reader import OPTIONAL, OPTIONAL_SINCE_2
from batchproof.service.bundle.signing import SIGNATURE_FILE
from batchproof.service.configuration.address import Address
from batchproof.service.errors import first_line
from batchproof.service.stores.hub import endpoint_of, token_of
from batchproof.service.stores.publishing.package import ALREADY, Package
from batchproof.service.stores.store import StoreError

CARD = "README.md"
BRANCH = "main"


def push(
    package: Package,
    address: Address,
    statement: Statement,
    create: Literal["private", "public"] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Commit card and bundle, and remove files of an earlier bundle; returns what was done.

    Raises ModuleNotFoundError without huggingface_hub, StoreError or BundleError.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    token = token_of(environment)
    if not token:
        raise StoreError("pushing to the Hub needs a token that may write: set HF_TOKEN, or run hf auth login")
    repository, _, branch = address.rest.partition("@")
    api = HfApi(endpoint=endpoint_of(environment), token=token, library_name="batchproof")
    try:
        if create:
            api.create_repo(repository, private=create == "private", exist_ok=True)
            if branch:
                api.create_branch(repository, branch=branch, exist_ok=True)
        return _commit(
            api, repository, branch or BRANCH, package, model_card(package.manifest, statement, str(address))
        )
    except RevisionNotFoundError as error:
        raise StoreError(f"{repository} has no branch {branch or BRANCH}: --create private makes one") from error
    except RepositoryNotFoundError as error:
        raise StoreError(
            f"hf://{repository} does not exist, or the token may not see it: --create private makes it"
        ) from error
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise StoreError(f"{address} cannot be written: {_why(error)}") from error


def _commit(api: Any, repository: str, branch: str, package: Package, card: str) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    info = api.repo_info(repository, revision=branch)
    present = {file.rfilename for file in info.siblings or ()}
    files = {CARD: card.encode(), **dict(package.files())}
    earlier = (OPTIONAL | OPTIONAL_SINCE_2 | {SIGNATURE_FILE}) & present - files.keys()
    commit = api.create_commit(
        repository,
        [
            *(CommitOperationAdd(name, content) for name, content in files.items()),
            *(CommitOperationDelete(name) for name in sorted(earlier)),
        ],
        commit_message=f"{package.manifest.name} {package.manifest.version}, sha256 {package.manifest.sha256[:16]}",
        revision=branch,
        parent_commit=info.sha,  # somebody else's commit in between is not undone
    )
    address = f"hf://{repository}@{commit.oid}"
    return ALREADY.format(address=address) if commit.oid == info.sha else f"wrote {address}"


def _why(error: BaseException) -> str:
    """Return what the server said, not that an upload failed."""
    cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
    return first_line(cause) if str(cause) else type(cause).__name__
