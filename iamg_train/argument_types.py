"""Numbers as the command line takes them."""

from argparse import ArgumentTypeError


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{text} is not 1 or more")
    return number


def multiple_of_8(text: str) -> int:
    number = positive(text)
    if number % 8:
        raise ArgumentTypeError(f"{text} is not a multiple of 8")
    return number
