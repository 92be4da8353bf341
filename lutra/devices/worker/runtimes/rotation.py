"""How many input buffers a model's runs rotate over, so that a cache does not flatter it."""

from __future__ import annotations

_CACHES_TO_EXCEED = 2
# Small inputs are found in the cache inside a network too: its last layer wrote them just before.
_MOST_BUFFERS = 8


def buffer_count(input_bytes: int, cache_bytes: int, inputs: str) -> int:
    """Buffers that together exceed twice the cache, within bounds; one for ``same`` inputs."""
    if inputs == "same":
        return 1
    wanted = -(-_CACHES_TO_EXCEED * cache_bytes // max(1, input_bytes))
    return max(2, min(_MOST_BUFFERS, wanted))
