"""What an import left out or changed: how often, and where first."""

from collections import Counter, defaultdict

from rich.text import Text

from iamg_train.console import console

EXAMPLES = 100  # of each kind in the report
SHOWN = 3  # of them on the console
EXAMPLE_CHARACTERS = 200

# Left out.
UNREADABLE_ROW = "rows that cannot be read"
UNUSABLE_ITEM = "items that cannot be used"
REPEATED_ITEM = "items whose id an item before them has"
NO_PICTURE = "items without a picture or an address of one"
BAD_PICTURE = "pictures that cannot be used"
BAD_ADDRESS = "addresses that are no http or https URL"
BAD_INTERACTION = "interactions without a finite rating and time, or with an id that cannot be used"
UNKNOWN_OUTFIT = "clicked outfits that outfit_data.txt lacks"
OTHER_ITEM = "interactions with items that are not in the catalogue"
# Changed.
FORMULA_ID = "ids that a spreadsheet takes for a formula: they begin with ' now"
CONVERTED_PICTURE = (
    "pictures that became plain RGB files (rotated, animated, transparent, CMYK, 16-bit, or of a rarer format)"
)


class Findings:
    """Counts by kind, each with its first examples."""

    def __init__(self):
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = defaultdict(list)

    def note(self, kind: str, example: str) -> None:
        self._counts[kind] += 1
        if self._counts[kind] <= EXAMPLES:
            shown = "".join(character if character.isprintable() else "�" for character in example)
            self._examples[kind].append(shown if len(shown) <= EXAMPLE_CHARACTERS else f"{shown[:EXAMPLE_CHARACTERS]}…")

    def as_json(self) -> dict[str, dict]:
        return {kind: {"count": count, "first": self._examples[kind]} for kind, count in self._counts.items()}

    def __str__(self) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in self._counts.items()) or "nothing"


def tell_findings(found: dict[str, dict]) -> None:
    """Prints what `Findings.as_json` holds."""
    for kind, finding in found.items():
        console.print(Text(f"{finding['count']:,} {kind}", style="yellow"))
        for example in finding["first"][:SHOWN]:
            console.print(Text(f"  {example}"))
