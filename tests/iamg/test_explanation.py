"""The explanation names every item with its share, the strongest first."""

import numpy as np
from PIL import Image

from iamg.explanation import BAR_LEFT, BAR_WIDTH, Share, draw, tell


def share(item_id, attention, title="A film"):
    return Share(item_id, title, 0.5, attention, Image.new("RGB", (40, 60), "red"))


def test_the_account_is_sorted_by_attention_and_says_when_ira_is_untrained():
    texts = [share("a", 0.2), share("b", 0.8)]
    lines = tell(texts, [share("c", 1.0)], trained=True).splitlines()
    assert [line.split("[")[1][0] for line in lines if "[" in line] == ["b", "a", "c"]
    assert "80.0%" in lines[1] and "untrained" not in lines[0]
    assert "untrained" in tell(texts, [], trained=False)


def test_bars_are_as_long_as_the_attention():
    picture = np.asarray(draw([share("a", 0.25), share("b", 0.75)], [share("c", 1.0)]))
    bar = (picture == (0x3B, 0x7D, 0xD8)).all(-1)[:, BAR_LEFT : BAR_LEFT + BAR_WIDTH + 1]
    lengths = sorted({int(row.sum()) for row in bar if row.any()})
    assert np.allclose(lengths, [0.25 * BAR_WIDTH, 0.75 * BAR_WIDTH, BAR_WIDTH], atol=2)


def test_a_long_title_is_shortened_not_drawn_over_the_bar():
    short, long = draw([share("a", 0.0, "x" * 26)], []), draw([share("a", 0.0, "x" * 300)], [])
    left = [np.asarray(picture)[:, BAR_LEFT:].astype(int) for picture in (short, long)]
    assert (left[0] == left[1]).all()
