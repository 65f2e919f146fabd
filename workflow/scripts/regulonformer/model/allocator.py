"""Freed memory stays with a process that will ask for the same sizes again."""

import ctypes
import sys

# Parameters of glibc's mallopt (malloc.h).
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
PAD_BYTES = 64 * 1024 * 1024


def keep_freed_memory() -> None:
    """Let glibc reuse the large blocks that tensors free, instead of giving them back to the system each time.

    A step frees hundreds of them and asks for the same ones again; fresh pages have to be zeroed first, which takes up
    to half of the time on a CPU. Does nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for parameter, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1), (TOP_PAD, PAD_BYTES)):
            library.mallopt(parameter, value)
