"""Ids of users and items as JSON gives them."""


def as_id(value: object) -> str:
    """An id as interactions and pools have it; numbers are ids too. TypeError or ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"{value!r} is no id")
    text = str(value).strip()
    text.encode()  # half a surrogate pair is no text
    if not text:
        raise ValueError("an id is empty")
    return text
