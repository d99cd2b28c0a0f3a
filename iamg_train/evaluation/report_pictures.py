"""The best, median and worst users as strips of pictures: what they liked, the item, what each method made of it."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from iamg.items import Item, read_items
from iamg.pictures import open_picture, resolve_inside
from iamg_train.page_pictures import image_tag, small_file

PLACES = ("best", "median", "worst")
LARGE, SMALL = 256, 144  # pixels, the longest side of a picture and of one of the history


def strips(examples: Mapping, items: Path) -> str:
    """examples: as results have them; a strip a user."""
    wanted = {x for place in PLACES for user in examples.get(place, ()) for x in (user["objective"], *user["history"])}
    known = {x.item_id: x for x in read_items(items, lambda *_: None) if x.item_id in wanted} if wanted else {}

    def item(item_id: str, kind: str, side: int) -> str:
        found: Item | None = known.get(item_id)
        path = found and resolve_inside(items, found.picture)
        return _figure(path, found.title or item_id if found else item_id, kind, side)

    def strip(user: Mapping) -> str:
        liked = "".join(item(x, "history", SMALL) for x in user["history"])
        drawn = "".join(_figure(Path(file), method, "", LARGE) for method, file in user["pictures"].items())
        return (
            f"<div class='user'><p>User <b>{escape(user['user_id'])}</b>, who liked:</p>"
            f"<div class='strip' tabindex='0'>{liked}{item(user['objective'], 'item', LARGE)}{drawn}</div></div>"
        )

    parts = [f"<h3>{place}</h3>{''.join(map(strip, examples[place]))}" for place in PLACES if examples.get(place)]
    return f"<p class='soft'>Chosen by rule: {escape(examples['rule'])}.</p>{''.join(parts)}"


def _figure(path: Path | None, caption: str, kind: str, side: int) -> str:
    caption = escape(caption)
    try:
        if path is None:
            raise ValueError
        shown = image_tag(*small_file(open_picture(path), side), caption)
    except ValueError:
        shown = "<div class='missing'>not there</div>"
    return f"<figure class='{kind}'>{shown}<figcaption>{caption}</figcaption></figure>"
