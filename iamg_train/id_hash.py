"""Choices by a hash of the id: the same ones whatever else is in the data (D15)."""

import xxhash


def share_of(salt: str, name: str) -> float:
    """A number in 0..1, the same for a name everywhere; another salt gives another number."""
    return xxhash.xxh3_64_intdigest(f"{salt}\0{name}".encode()) / 2**64


def visiting_order(user_id: str) -> tuple[float, str]:
    """What users are sorted by before entries are taken from the first ones."""
    return share_of("order", user_id), user_id
