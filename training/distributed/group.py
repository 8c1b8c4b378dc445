"""The processes of a run: what they exchange, and in which order it is merged. Over gloo on CPUs, over NCCL on GPUs.

Nothing is reduced by the library: all-reduce adds in an order that depends on the number of processes and on the size of
the message. Every process gets the parts of all, and merges them in the order of the tree.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import FileStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn import functional

from batchproof.service.errors import first_line
from batchproof.training.distributed.group_error import GroupError
from batchproof.training.distributed.place import Place, number_of
from batchproof.training.distributed.tree import SHARDS, pairwise
from batchproof.training.settings import SettingError

JOIN_S = 120.0  # longest wait for all processes to come
SILENCE_S = 1_800.0  # longest wait for a message; the end of a process is noticed at once
LOST = "another process of this run ended or cannot be reached, so this one stopped; no bundle was written."


class Group:
    """The processes that train one network; with one process, nothing is sent."""

    def __init__(self, rank: int, size: int, device: str = "cpu") -> None:
        """Hold the place of this process; tensors of other devices are not exchanged."""
        self.rank, self.size, self.device = rank, size, torch.device(device)
        share = SHARDS // size
        self.shards = range(rank * share, (rank + 1) * share)  # of each batch, that this process computes

    @property
    def shard_count(self) -> int:
        """How many shards a batch has."""
        return SHARDS

    @property
    def first(self) -> bool:
        """Whether this process writes and talks."""
        return self.rank == 0

    def gather(self, part: Tensor) -> Tensor:
        """Return the part [...] of every process, of one shape, by rank [size, ...]."""
        if self.size == 1:
            return part.unsqueeze(0)
        parts = torch.empty(self.size, *part.shape, dtype=part.dtype, device=part.device)
        with lost():
            dist.all_gather(list(parts), part.contiguous())
        return parts

    def merge(self, part: Tensor, merge: Callable[[Tensor, Tensor], Tensor] = torch.add) -> Tensor:
        """Merge what each process merged of its own shards: the top of the tree. For small tensors."""
        return part if self.size == 1 else pairwise(self.gather(part), merge)

    def sum(self, part: Tensor) -> Tensor:
        """Return the sum of a long vector [n] over all processes; each adds up one piece and sends it to the others."""
        if self.size == 1:
            return part
        padded = functional.pad(part, (0, -len(part) % self.size))
        pieces = torch.empty_like(padded)
        with lost():
            dist.all_to_all_single(pieces, padded)
        return self.gather(pairwise(pieces.view(self.size, -1))).flatten()[: len(part)]

    def deal(self, count: int) -> range:
        """Return which of `count` tasks this process does."""
        return range(self.rank, count, self.size)

    def collect(self, own: Sequence[Tensor], like: Tensor, count: int) -> list[Tensor]:
        """Return the results of `count` tasks that were dealt, in order; each has the shape and type of `like`."""
        most = -(-count // self.size)
        rows = torch.stack([*own, *[torch.zeros_like(like)] * (most - len(own))])
        parts = self.gather(rows.to(self.device)).to(like.device)
        return [parts[number % self.size, number // self.size] for number in range(count)]

    def any(self, *, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return bool(self.gather(torch.tensor(flag, device=self.device)).any())

    def texts(self, text: str) -> list[str]:
        """Return a text of each process, by rank."""
        raw = text.encode()
        sizes = self.gather(torch.tensor(len(raw), device=self.device)).tolist()
        padded = torch.frombuffer(bytearray(raw.ljust(max(*sizes, 1), b"\0")), dtype=torch.uint8).to(self.device)
        parts = self.gather(padded).cpu().numpy()
        return [part[:size].tobytes().decode() for part, size in zip(parts, sizes, strict=True)]

    def hand_out(self, content: bytes | None) -> bytes:
        """Return the bytes that the first process has; the others pass None."""
        size = int(self.gather(torch.tensor(len(content or b""), device=self.device))[0])
        buffer = torch.zeros(size, dtype=torch.uint8, device=self.device)
        if content:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        if self.size > 1 and size:
            with lost():
                dist.broadcast(buffer, 0)
        return buffer.cpu().numpy().tobytes()


@contextmanager
def lost() -> Iterator[None]:
    """Raise GroupError where a message does not arrive."""
    try:
        yield
    except RuntimeError as error:  # torch has no narrower type for a closed connection
        raise GroupError(LOST) from error


@contextmanager
def joined(place: Place, device: str) -> Iterator[Group]:
    """Join the other processes, for the body of a with statement. Raises GroupError or SettingError.

    A group that the caller's program has made (as Ray does) is used and left as it is.
    """
    if place.size == 1:
        yield Group(0, 1, device)
        return
    if device == "cuda":
        torch.cuda.set_device(place.local_rank)
    made_here = not dist.is_initialized()
    if made_here:
        _meet(place, device)
    try:
        yield Group(place.rank, place.size, device)
    finally:
        if made_here:
            dist.destroy_process_group()


def _meet(place: Place, device: str) -> None:
    wait = timedelta(seconds=JOIN_S)
    try:
        store = _store(place, wait)
        _compare_sizes(store, place)
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.size,
            timeout=timedelta(seconds=SILENCE_S),
        )
    except SettingError:
        raise
    except (RuntimeError, ValueError) as error:  # torch's DistError and its errors of addresses
        raise GroupError(
            f"the {place.size} processes of this run did not come together (they wait {JOIN_S:.0f} s for one another): "
            f"{first_line(error)}."
        ) from error


def _compare_sizes(store: Store, place: Place) -> None:
    store.set(f"batchproof/size/{place.rank}", str(place.size))
    for rank in range(place.size):
        size = int(store.get(f"batchproof/size/{rank}"))  # waits for that process
        if size != place.size:
            raise SettingError(
                f"process {rank} is one of {size}, process {place.rank} one of {place.size}: WORLD_SIZE must agree."
            )


def _store(place: Place, wait: timedelta) -> Store:
    if place.store is not None:
        store: Store = FileStore(str(place.store), place.size)
        store.set_timeout(wait)
        return store
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise SettingError(f"this is process {place.rank} of {place.size}, but {missing[0]} is not set: use torchrun.")
    number_of("MASTER_PORT")
    found: Store = next(iter(rendezvous("env://", timeout=wait)))[0]
    return found
