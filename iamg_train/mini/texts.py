"""The mini world's words: what posters are called, what their texts say, and how the base models hear of them."""

import random
from dataclasses import replace

from iamg_train.mini.posters import CHARMS, VALUES, Poster

WHERE = {
    "night": "at night",
    "dawn": "at dawn",
    "forest": "in the forest",
    "ocean": "by the ocean",
    "desert": "in the desert",
    "winter": "in winter",
}
SENTENCES = (
    "There is a {subject} with {charms}, {where}.",
    "With {charms}, {where}, there is a {subject}.",
    "Here is one {subject} under {charms}, {where}.",
)
ABOUT, RELATED = 0.7, 0.5  # chances of a true tag in the clauses of a caption
HINT = 0.3  # chance of an interest, in the caption of a redrawing, that changes nothing
PHI = "poster"


def tag_of(attribute: str, value: str) -> str:
    """How a value is called among tags."""
    return {"pattern": f"{value} background", "frame": f"{value} frame"}.get(attribute, value)


def picture_tags(poster: Poster) -> list[str]:
    """What only a look at the picture tells, but for its setting."""
    return [tag_of(name, getattr(poster, name)) for name in ("colour", "pattern", "frame", "setting")]


def text_tags(poster: Poster) -> list[str]:
    """What the text tells."""
    return [poster.subject, poster.setting, *poster.charms]


def title_of(poster: Poster) -> str:
    return f"{poster.subject} {WHERE[poster.setting]}".title().replace(" The ", " the ")


def sentence_of(poster: Poster) -> str:
    """It names the subject, the setting and the charms; colour, pattern and frame are the picture's own."""
    charms = " and ".join(f"a {charm}" for charm in poster.charms)
    sentence = SENTENCES[poster.seed % len(SENTENCES)]
    return sentence.format(subject=poster.subject, charms=charms, where=WHERE[poster.setting])


def caption_of(poster: Poster, chance: random.Random) -> str:
    """One of the many true things to be said of a poster: its text, its tags, some of both, in any order."""
    tags = list(dict.fromkeys(picture_tags(poster) + text_tags(poster)))
    chance.shuffle(tags)
    text = f"{title_of(poster)}. {sentence_of(poster)}"
    kind = chance.random()
    if kind < 0.25:
        return text
    if kind < 0.5:
        return ", ".join(tags[: chance.randint(1, len(tags))])
    about = [tag for tag in tags if chance.random() < ABOUT]
    related = [tag for tag in tags if tag not in about and chance.random() < RELATED]
    clauses = [f"about {', '.join(about)}"] if about else []
    clauses += [f"maybe related to {', '.join(related)}"] if related else []
    sentence = f"This {PHI} is {', '.join(clauses)}." if clauses else ""
    return f"{text} {sentence}".strip() if chance.random() < 0.7 else sentence or text


def few_tags(poster: Poster, chance: random.Random, most: int) -> str:
    """One to `most` of a poster's tags."""
    tags = list(dict.fromkeys(picture_tags(poster) + text_tags(poster)))
    return ", ".join(chance.sample(tags, chance.randint(1, most)))


def redraw_caption(poster: Poster, chance: random.Random) -> str:
    """T* of another item of the same subject, of which the poster is the redrawing: what differs, "maybe related to" tells.

    Up to three looks of the item are others than the poster's. Some interests change nothing: what the item shows
    anyway, or another subject, for the redrawing stays that item.
    """
    told, item = [], poster
    for name in chance.sample(("colour", "setting", "pattern", "frame", "charm"), chance.randint(1, 3)):
        if name == "charm":
            told.append(chance.choice(poster.charms))
            charms = tuple(x for x in poster.charms if x != told[-1])
            item = replace(item, charms=charms or (chance.choice([x for x in CHARMS if x != told[-1]]),))
        else:
            told.append(tag_of(name, getattr(poster, name)))
            others = [value for value in VALUES[name] if value != getattr(poster, name)]
            item = replace(item, **{name: chance.choice(others)})
    about = list(dict.fromkeys(picture_tags(item) + text_tags(item)))
    if chance.random() < HINT:
        subjects = [subject for subject in VALUES["subject"] if subject != item.subject]
        told.insert(
            chance.randint(0, len(told)), chance.choice((chance.choice(subjects), chance.choice(picture_tags(poster))))
        )
    told = list(dict.fromkeys(told))
    sentence = f"This {PHI} is about {', '.join(about)}, maybe related to {', '.join(told)}."
    return f"{title_of(item)}. {sentence_of(item)} {sentence}"
