"""Numbers as the command line takes them; argparse shows what is wrong with others."""

from argparse import ArgumentTypeError


def count(text: str, least: int = 0) -> int:
    number = int(text)
    if number < least:
        raise ArgumentTypeError(f"{text} is not {least} or more")
    return number


def positive(text: str) -> int:
    return count(text, least=1)


def positive_number(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"{text} is not above 0")
    return number


def multiple_of_8(text: str) -> int:
    number = positive(text)
    if number % 8:
        raise ArgumentTypeError(f"{text} is not a multiple of 8")
    return number
