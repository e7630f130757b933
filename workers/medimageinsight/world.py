"""The processes that learn together: one for each GPU under torchrun, or one alone.

Whether it was torchrun that started this process, torch knows; nothing is configured.
Sums over processes are exact in one respect: what a process does not contribute is
zero, so rows that each of them filled in for its part come together in their order.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where a process stands among those that learn together.

    Parameters
    ----------
    rank, size
        Its number, from 0, and how many there are.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Return whether this is the one that writes and speaks."""
        return self.rank == 0

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, by its sum over all processes."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def wait(self) -> None:
        """Return once every process has come here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def join() -> Iterator[World]:
    """Yield this process's place, together with all others that torchrun started."""
    gpus = torch.cuda.device_count()
    if not distributed.is_torchelastic_launched():
        yield World(rank=0, size=1, device=torch.device("cuda" if gpus else "cpu"))
        return
    distributed.init_process_group("nccl" if gpus else "gloo")
    try:
        local = distributed.get_node_local_rank(fallback_rank=0)
        device = torch.device("cuda", local) if gpus else torch.device("cpu")
        if gpus:
            torch.cuda.set_device(device)
        yield World(
            rank=distributed.get_rank(),
            size=distributed.get_world_size(),
            device=device,
        )
    finally:
        distributed.destroy_process_group()
