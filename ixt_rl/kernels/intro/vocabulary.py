"""The vocabulary cut into tiles, which threads of their own walk over.

A walk on a CPU is thousands of operations of some milliseconds. Were the cores to share them one by one, each would end
when the slowest core does, and a tile would travel from one core's cache to the other's. Here a thread takes every
`threads`-th tile with all that is done to it, and waits for the others once a walk.

Shapes: V vocabulary, v entries of a tile, K tiles.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor, set_num_threads  # by name: vLLM on a CPU puts a warning in place of torch.set_num_threads

from ixt_rl.kernels.chunks import spans

MAX_THREADS = 8  # each has scratch memory, and a sum of the hidden states' gradient, of its own
Tile = tuple[int, int, int]
"""`(k, v0, v1)`: tile k, the entries v0:v1."""
Visit = Callable[[int, int, int], None]
"""Something done to a tile."""
_one_walk = threading.Lock()


class Tiles:
    """Tiles of a vocabulary and the threads that take them in turn: tile k belongs to thread `k % threads`.

    As many threads as torch has on a CPU; one on an accelerator, whose host only launches kernels. A context: they end
    with it. (Threads begun for each walk would have MKL allocate its buffers anew.)

    Args:
        vocab_size: V.
        width: v; the last tile may be narrower.
        rows: of each thread's scratch memory.
        new: dtype and device of that memory.
    """

    def __init__(self, vocab_size: int, width: int, rows: int, new: dict[str, Any]):
        self.vocab_size, self.width = vocab_size, width
        self.count = len(range(0, vocab_size, width))  # K
        cores = _cores() if new["device"].type == "cpu" else 1
        self.threads = min(cores, self.count, MAX_THREADS)
        self._cores = cores // self.threads  # over which a thread shares an operation
        self._scratch = torch.empty((self.threads, rows, width), **new)
        self._spare: dict[tuple[int, str], Tensor] = {}
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Tiles:
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def __iter__(self) -> Iterator[Tile]:
        for k, (v0, v1) in enumerate(spans(self.vocab_size, self.width)):
            yield k, v0, v1

    def thread(self, k: int) -> int:
        """The thread of tile k."""
        return k % self.threads

    def scratch(self, k: int, rows: int) -> Tensor:
        """`[rows, v]` memory of tile k's thread, as wide as the tile; whatever the thread does next overwrites it."""
        return self._scratch[self.thread(k), :rows, : min(self.width, self.vocab_size - k * self.width)]

    def spare(self, k: int, use: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Memory of `shape`, `[rows, columns]`, of tile k's thread for one use, kept from tile to tile: what is
        allocated anew for each costs its first touch. `use` has the same `columns` and `dtype` every time."""
        rows, columns = shape
        key, size = (self.thread(k), use), rows * columns
        if key not in self._spare or self._spare[key].numel() < size:
            self._spare[key] = torch.empty(size, dtype=dtype, device=self._scratch.device)
        return self._spare[key][:size].view(rows, columns)

    def each(self, visit: Visit, tiles: Iterable[Tile] | None = None) -> None:
        """Call `visit` for each of `tiles` (None: all), those of a thread in order, without gradients and autocast.

        MKL knows one number of threads for the whole process: what other threads compute meanwhile uses no more cores
        than one of these.

        Raises:
            Whatever `visit` raises, once all threads have ended.
        """
        tiles = list(self if tiles is None else tiles)
        if self._pool is None:
            for tile in tiles:
                visit(*tile)
            return

        inference = torch.is_inference_mode_enabled()

        def run(thread: int) -> None:
            set_num_threads(self._cores)
            with torch.inference_mode(inference), torch.no_grad():  # these modes belong to a thread
                for k, v0, v1 in tiles:
                    if self.thread(k) == thread:
                        visit(k, v0, v1)

        with _one_walk:  # two at once would take each other's number of threads for the process's own
            before = torch.get_num_threads()
            try:
                wait(results := [self._pool.submit(run, thread) for thread in range(self.threads)])
            finally:
                set_num_threads(before)
        for result in results:
            result.result()


def _cores() -> int:
    """As many as torch has threads; 1 if new threads would have to share those this one is bound to."""
    threads = torch.get_num_threads()
    wanted = min(threads, os.cpu_count() or 1)
    bound = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < wanted
    return 1 if bound else threads
