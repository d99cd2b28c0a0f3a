"""Ids as file names."""

from urllib.parse import quote

import xxhash

LONGEST = 100  # characters of a name before it is cut


def safe_name(name: str) -> str:
    """Letters, digits, - and _ stay, all else is percent-encoded; a long name is cut, and ends in its hash."""
    safe = quote(name, safe="").replace(".", "%2E")
    return safe if len(safe) <= LONGEST else f"{safe[:LONGEST]}-{xxhash.xxh3_64_hexdigest(name.encode())}"
