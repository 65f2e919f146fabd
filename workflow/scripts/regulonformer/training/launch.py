"""Run a function in several processes of one machine."""

import logging
import os
import pickle
from logging.handlers import QueueHandler, QueueListener

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def launch(function, processes: int, *arguments):
    """Call a function, in one process or in several that torchrun's launcher starts and watches.

    Parameters
    ----------
    function
        Of a module that can be imported.
    processes
        Number of processes; 1 calls the function in this one.
    arguments
        What it is called with; each process gets a copy, and its part of the threads of this one.

    Returns
    -------
    object
        What the function returns, in the first process.
    """
    if processes == 1:
        return function(*arguments)
    messages = multiprocessing.get_context("spawn").Queue()
    # The log of a run is that of its first process.
    listener = QueueListener(messages, *logging.getLogger().handlers)
    config = LaunchConfig(
        1, 1, processes, run_id=str(os.getpid()), rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0
    )
    threads = max(1, torch.get_num_threads() // processes)
    listener.start()
    try:
        # Pickled here, because tensors that torch hands to a process are memory which all of them would train at once.
        results = elastic_launch(config, _work)(pickle.dumps((function, arguments)), threads, messages)
    finally:
        listener.stop()
    return pickle.loads(results[0])


def _work(call: bytes, threads: int, messages) -> bytes | None:
    """Call the function in a process of its own."""
    first = os.environ["RANK"] == "0"
    level, handlers = logging.INFO if first else logging.ERROR, [QueueHandler(messages)]
    logging.basicConfig(level=level, format="%(message)s", handlers=handlers, force=True)
    logging.captureWarnings(True)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # or accelerate would set another number
    function, arguments = pickle.loads(call)
    result = function(*arguments)
    dist.destroy_process_group()
    return pickle.dumps(result) if first else None
