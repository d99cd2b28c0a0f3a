"""Which retrieved items made the interest, and how much: told in words and drawn as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

WIDTH, ROW, THUMB, LINE = 760, 84, 72, 20
BAR_LEFT, BAR_WIDTH = 330, 300


@dataclass(frozen=True)
class Share:
    """One retrieved item's part in one stage of IRA."""

    item_id: str
    title: str
    similarity: float  # cosine, Eq 7
    attention: float  # share of the stage's attention mass; a stage's shares sum to 1
    picture: Image.Image

    def as_dict(self) -> dict:
        return {
            "item_id": self.item_id,
            "title": self.title,
            "similarity": round(self.similarity, 4),
            "attention": round(self.attention, 4),
        }


def tell(texts: Sequence[Share], images: Sequence[Share], trained: bool) -> str:
    """A readable account, one line an item, the strongest of each stage first."""
    lines = [] if trained else ["IRA is untrained (identity): attention follows plain similarity of the tokens."]
    for title, shares in (("Texts (Eq 10)", texts), ("Pictures (Eq 11)", images)):
        lines.append(title)
        lines += [
            f"  {share.attention:6.1%}  {share.title} [{share.item_id}], similarity {share.similarity:.3f}"
            for share in _strongest_first(shares)
        ]
    return "\n".join(lines)


def draw(texts: Sequence[Share], images: Sequence[Share]) -> Image.Image:
    """Two lists of thumbnails with a bar for the attention each received."""
    height = 2 * (LINE + 16) + (len(texts) + len(images)) * ROW + 8
    canvas = Image.new("RGB", (WIDTH, height), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15)
    y = 8
    for heading, shares in (("Nearest texts: what the words added", texts), ("Nearest pictures", images)):
        pen.text((12, y), heading, fill="#222222", font=font)
        y += LINE + 8
        for share in _strongest_first(shares):
            canvas.paste(ImageOps.pad(share.picture, (THUMB, THUMB), color="white"), (12, y))
            pen.text((100, y + 14), _short(share.title), fill="#222222", font=font)
            pen.text((100, y + 38), f"similarity {share.similarity:.3f}", fill="#777777", font=font)
            pen.rectangle((BAR_LEFT, y + 26, BAR_LEFT + BAR_WIDTH, y + 46), fill="#eeeeee")
            pen.rectangle((BAR_LEFT, y + 26, BAR_LEFT + BAR_WIDTH * share.attention, y + 46), fill="#3b7dd8")
            pen.text((BAR_LEFT + BAR_WIDTH + 12, y + 26), f"{share.attention:.1%}", fill="#222222", font=font)
            y += ROW
        y += 8
    return canvas


def _strongest_first(shares: Sequence[Share]) -> list[Share]:
    return sorted(shares, key=lambda share: -share.attention)


def _short(title: str, limit: int = 26) -> str:
    return title if len(title) <= limit else title[: limit - 1].rstrip() + "…"
