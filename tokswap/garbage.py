"""Python's garbage collector in the processes that tokswap starts itself.

Importing torch and transformers makes a million objects that stay to the end; with the collector's
own settings it looks through them again and again, and once more at the end of the process: up to a
quarter of the seconds of a short command. What holds tensors is freed by its count of references,
without the collector.
"""

import atexit
import gc


def collect_seldom() -> None:
    """Let the collector of this process run seldom, and not look at everything at its end.

    For processes that are tokswap's own; who uses the API keeps their collector as it is.
    """
    gc.set_threshold(50_000, 20, 50)
    atexit.register(gc.freeze)
