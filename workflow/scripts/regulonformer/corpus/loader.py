"""Batches made ahead of the model that eats them."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from regulonformer.corpus.encoding import encode_cells
from regulonformer.corpus.shards import Corpus
from regulonformer.model.batch import CellBatch

WORKERS = 2
# Batches made ahead. Few, since a padded batch takes far more room than its counts do.
AHEAD = 4


def stream(corpus: Corpus, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, CellBatch]]:
    """Encode batches in threads while the caller works on earlier ones.

    Threads and no processes: zarr's decoders and our own loops let go of the interpreter, and nothing is forked that
    holds locks. The order is that of `batches`, whoever finishes first.

    Parameters
    ----------
    corpus
        Cells.
    batches
        Row numbers of each batch, as a sampler gives them; drawn as needed, so it may be endless.

    Yields
    ------
    tuple of numpy.ndarray and CellBatch
        Row numbers, and their cells.
    """
    batches = iter(batches)
    pool, waiting = ThreadPoolExecutor(WORKERS, thread_name_prefix="loader"), deque()
    try:
        while True:
            while len(waiting) < AHEAD and (rows := next(batches, None)) is not None:
                waiting.append((rows, pool.submit(encode_cells, corpus, rows)))
            if not waiting:
                return
            rows, batch = waiting.popleft()
            yield rows, batch.result()
    finally:
        pool.shutdown(cancel_futures=True)
