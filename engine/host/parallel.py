"""Threads for work that releases Python's lock: decoding, resizing, LiteRT."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def ordered_map(function, items, threads: int):
    """Like `map`, in threads, with results in order and a bounded number of items under way, so
    that memory does not grow with their number (`Executor.map` reads all of them at once). A single
    item is worked on here: starting threads would take longer than a prediction."""
    items = iter(items)
    begun = list(islice(items, 2))
    if len(begun) < 2:
        yield from map(function, begun)
        return
    items, waiting = chain(begun, items), deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 8 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
