"""How much is asked of one host, and how long it is left alone."""

import asyncio
import time
from dataclasses import dataclass

GIVE_UP = 5  # pictures in a row that a host gave no answer for
LONGEST_WAIT = 120.0  # seconds; a host that wants to be left alone for longer is asked in another run


@dataclass(frozen=True)
class Manners:
    connections: int = 16  # at a time, to all hosts together
    per_host: int = 4  # connections at a time
    rate: float = 5.0  # requests a second, of one host
    retries: int = 3  # after a try that failed for now
    back_off: float = 1.0  # seconds before the first retry, doubled for each that follows
    timeout: float = 30.0  # seconds without a byte


class Host:
    """When a host may be asked next, and whether it may be asked at all."""

    def __init__(self, rate: float):
        self._interval = 1 / rate
        self._free_at = 0.0
        self._turn = asyncio.Lock()
        self._unanswered = 0
        self.given_up = ""  # why it is not asked any more

    async def turn(self) -> None:
        """Returns when a request may be made."""
        async with self._turn:
            while (wait := self._free_at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self._free_at = time.monotonic() + self._interval

    def leave_alone(self, seconds: float) -> None:
        """It asked for this (Retry-After); nobody asks it sooner."""
        self._free_at = max(self._free_at, time.monotonic() + seconds)
        if seconds > LONGEST_WAIT:
            self._free_at, self.given_up = 0.0, f"its host wants no requests for {LONGEST_WAIT:.0f} s and more"

    def answered(self) -> None:
        self._unanswered = 0

    def gave_no_answer(self) -> None:
        """For one picture, after every retry."""
        self._unanswered += 1
        if self._unanswered == GIVE_UP:
            self.given_up = f"its host gave no answer for {GIVE_UP} pictures in a row"
