"""What a catalogue's tags are, and what it took to find them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from iamg.tagging import ItemTags
from iamg_train.console import console, plain, tell_problems

SHOWN_TAGS = 20
SHOWN_IDS = 10
MANY = 10_000  # items of a large catalogue


@dataclass(frozen=True)
class TagReport:
    """`tags` by item; `asked` items were asked for in `seconds`, the others were in the cache."""

    tags: Mapping[str, ItemTags]
    problems: Sequence[tuple[str, str]]
    asked: int
    seconds: float

    @property
    def image_counts(self) -> Counter[str]:
        return Counter(tag for tags in self.tags.values() for tag in set(tags.image))

    @property
    def text_counts(self) -> Counter[str]:
        return Counter(tag for tags in self.tags.values() for tag in set(tags.text))

    @property
    def counts(self) -> Counter[str]:
        """How many items have a tag, in whichever modality."""
        return Counter(tag for tags in self.tags.values() for tag in {*tags.image, *tags.text})


def tell(report: TagReport) -> None:
    """Prints the report."""
    counts, of_images, of_texts = report.counts, report.image_counts, report.text_counts
    empty = [item_id for item_id, tags in report.tags.items() if not (tags.image or tags.text)]
    table = Table("items", str(len(report.tags)), show_edge=False)
    table.add_row("asked for now", str(report.asked))
    table.add_row("with tags of the picture", str(sum(bool(tags.image) for tags in report.tags.values())))
    table.add_row("with tags of the text", str(sum(bool(tags.text) for tags in report.tags.values())))
    table.add_row("without any tag", str(len(empty)))
    table.add_row("different tags", str(len(counts)))
    console.print(table)
    if counts:
        table = Table("the most frequent tags", "items", "of their picture", "of their text", show_edge=False)
        for tag, count in sorted(counts.items(), key=lambda row: (-row[1], row[0]))[:SHOWN_TAGS]:
            table.add_row(Text(plain(tag)), str(count), str(of_images[tag]), str(of_texts[tag]))
        console.print()
        console.print(table)
    if empty:
        more = f" and {len(empty) - SHOWN_IDS} more" if len(empty) > SHOWN_IDS else ""
        console.print(f"items without any tag: {', '.join(empty[:SHOWN_IDS])}{more}", markup=False)
    tell_problems("items have problems", report.problems)
    console.print(speed(report.asked, report.seconds), markup=False)


def speed(items: int, seconds: float) -> str:
    """Items a second, and what a large catalogue takes; the paper's taggers took 4 to 5 seconds an item."""
    if not items:
        return "every answer was there already"
    each = seconds / items
    return f"{1 / each:.2f} items/s, {each:.3g} s an item; {MANY} items take {duration(each * MANY)}"


def duration(seconds: float) -> str:
    """A length of time in the two largest units that it has."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
