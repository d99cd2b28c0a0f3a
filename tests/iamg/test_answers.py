"""Answers as LLaVA, Qwen-VL, Llama and others give them, written down with the tags that a person reads in them."""

import json
import random
import time

import pytest

from iamg.tag_text import merge_key, split_tags
from iamg.tagging.answers import read_answer

LIMIT = 7

LISTS = {
    # LLaVA-1.5: a plain list, with a period
    "Red, dark, mysterious, man, gun, city, action.": "red, dark, mysterious, man, gun, city, action",
    "dark, moody, lone hero, city skyline, rain, noir, and suspense": "dark, moody, lone hero, city skyline, rain, noir, suspense",
    "black and white, vintage, romance": "black and white, vintage, romance",
    "Tags: animation, family, adventure, toys, friendship": "animation, family, adventure, toys, friendship",
    "**Tags:** Sci-Fi, Neon Lights, Dystopia": "sci-fi, neon lights, dystopia",
    "1. Blue\n2. Cold tone\n3. Lone astronaut\n4. Outer space": "blue, cold tone, lone astronaut, outer space",
    "1) Blue 2) Cold tone 3) Lone astronaut": "blue, cold tone, lone astronaut",
    "1. blue 2. cold tone 3. astronaut": "blue, cold tone, astronaut",
    "The poster shows a man in a suit. The tags for it could include: 1. Suit 2. City": "suit, city",
    "- Warm colors\n- Sunset\n- Couple embracing\n- Romantic": "warm colors, sunset, couple embracing, romantic",
    "* **Warm colors**\n* **Sunset**\n* *Romantic*": "warm colors, sunset, romantic",
    "• denim • casual • summer": "denim, casual, summer",
    "#darktones #thriller #rain": "darktones, thriller, rain",
    "red | gold | festive": "red, gold, festive",
    "`red`, `gold`, `festive`": "red, gold, festive",
    '"red", "dark", "lone hero"': "red, dark, lone hero",
    "['red', 'dark', 'lone hero']": "red, dark, lone hero",
    "[red, dark, lone hero]": "red, dark, lone hero",
    "dark_tones, lone_hero": "dark tones, lone hero",
    "Dark; gloomy; rainy": "dark, gloomy, rainy",
    "Mission: Impossible": "mission: impossible",
    "spies, Mission: Impossible, Tom Cruise": "spies, mission: impossible, tom cruise",
    "Toy Story (1995), Mr. Potato Head, 1984": "toy story (1995), mr. potato head, 1984",
    "Dark tones, dark-tone, DARK TONE, red": "dark tones, red",
    "drama\n\ncomedy\r\nromance": "drama, comedy, romance",
    "red (95%), blue (80%)": "red, blue",
    "red: 0.95\nblue: 0.80": "red, blue",
    "formal (suit, tie, and leather shoes), black, winter": "formal, black, winter",
    "Western – Outlaws – Desert": "western, outlaws, desert",
}

AROUND = {
    # preambles
    "Sure! Here are the tags:\n\n1. Red\n2. Gothic\n3. Castle": "red, gothic, castle",
    "Sure, here are some tags for the movie poster: red, gothic, castle": "red, gothic, castle",
    "Certainly! Based on the image, here are the tags: red, gothic, castle.": "red, gothic, castle",
    "Based on the image, I would suggest the following tags:\n- Red\n- Gothic": "red, gothic",
    "Based on the provided movie description, the tags are: war, friendship, sacrifice": "war, friendship, sacrifice",
    "The tags for this movie poster are: dark, intense, hero, city.": "dark, intense, hero, city",
    "The tags for this movie poster are dark, intense, hero, and city.": "dark, intense, hero, city",
    "The tags of this image could be described as follows:\nred\ndark": "red, dark",
    "This image can be tagged as dark, moody, and urban.": "dark, moody, urban",
    "Here is a list of tags that describe the outfit: casual, denim, spring": "casual, denim, spring",
    "Okay, here's a set of tags, separated by commas:\n\nnoir, rain, detective": "noir, rain, detective",
    "Here are the tags\nnoir, rain, detective": "noir, rain, detective",
    "Looking at the poster, tags include noir, rain, detective": "noir, rain, detective",
    # closing remarks
    "Red, gothic, castle. I hope this helps!": "red, gothic, castle",
    "Red, gothic, castle\n\nLet me know if you need more tags!": "red, gothic, castle",
    "red, gothic\n\nThese tags capture the mood, color, and setting of the poster.": "red, gothic",
    "red, gothic\n\nNote: I kept the number of tags below 8, as requested.": "red, gothic",
    "red, gothic\n\n**Explanation:**\n- Red: love\n- Castle: power": "red, gothic",
    "red, gothic. Please note that these are based on what is visible, and not on the plot.": "red, gothic",
    "red, gothic\n(Total: 2 tags)": "red, gothic",
    "Red, gothic. Is there anything else you would like to know, perhaps about the cast?": "red, gothic",
    # labels
    "Color: red, blue\nTone: dark\nSetting: city": "red, blue, dark, city",
    "**Color**: red, blue\n**Tone and mood**: dark": "red, blue, dark",
    "1. **Color:** Red\n2. **Tone:** Dark, gritty\n3. **Expression:** N/A": "red, dark, gritty",
    "Color:\n  - red\n  - blue\nMood:\n  - tense": "red, blue, tense",
    "Color: red; Mood: tense; Season: winter": "red, tense, winter",
    "Color: red, Mood: tense, Cultural elements: none": "red, tense",
    "Color – red, blue": "red, blue",
    "Vibe: dark, moody": "dark, moody",
    "| Category | Tags |\n|---|---|\n| Color | red, blue |\n| Mood | tense |": "red, blue, tense",
    "### Movie Tags\n\nfantasy, dragons": "fantasy, dragons",
    "Final answer: fantasy, dragons": "fantasy, dragons",
    # explained tags
    "1. **Dark tones**: The poster uses a dark palette, which creates a sense of mystery.\n"
    "2. **Lone hero**: A man stands alone, with his back to us.": "dark tones, lone hero",
    "- Dark tones - the use of shadows suggests danger and mystery\n- Lone hero - he stands alone in the rain": "dark tones, lone hero",
    "- Dark tones, which create a sense of mystery and of suspense\n- Lone hero": "dark tones, lone hero",
    "Color: The poster is dominated by dark blue and black tones.\nTags: noir, rain": "noir, rain",
    # half a refusal
    "I'm sorry, but I can't identify the person in the picture. Here are the tags: suit, office, serious": "suit, office, serious",
    "I cannot identify real people, but here are tags for the image: suit, office": "suit, office",
}

JSON = {
    '{"tags": ["red", "dark tones", "hero"]}': "red, dark tones, hero",
    '```json\n{"tags": ["Red", "Dark Tones"]}\n```': "red, dark tones",
    '```json\n{\n  "tags": [\n    "Red",\n    "Dark Tones"\n  ]\n}\n```\n\nThese tags were chosen for the mood, and the color.': "red, dark tones",
    'Here is the JSON you asked for: {"tags": ["red", "dark"]} Let me know!': "red, dark",
    '["red", "dark", "hero"]': "red, dark, hero",
    '[{"tag": "red", "confidence": 0.98}, {"tag": "dark", "confidence": 0.91}]': "red, dark",
    '{"tags": [{"name": "red"}, {"name": "dark"}]}': "red, dark",
    '{"reasoning": "The poster is dark, and a man is alone.", "tags": ["noir", "loner"]}': "noir, loner",
    '{"Tags": "red, dark, hero"}': "red, dark, hero",
    '{"color": ["red", "blue"], "mood": "tense", "setting": "city, night"}': "red, blue, tense, city, night",
    '{"red": 0.98, "dark": 0.5}': "red, dark",
    '["Color: red", "Mood: tense"]': "red, tense",
    '{"tag": "red"}\n{"tag": "dark"}': "red, dark",
    '{"tags": ["caf\\u00e9", "na\\u00efve hero"]}': "café, naïve hero",
    # cut off, or a little broken
    '{"tags": ["red", "dark tones", "lone he': "red, dark tones",
    '{"tags": ["red", "dark tones"': "red, dark tones",
    '{"tags": ["red", "dark tones",': "red, dark tones",
    '[{"tag": "red", "confidence": 0.98}, {"tag": "dark", "conf': "red, dark",
    '[{"tag": "red", "confidence": 0.98}, {"tag":': "red",
    '{"tags": ["red", "dark"], "explanation": "The poster is': "red, dark",
    '["red", "dark",]': "red, dark",
    "{'tags': ['red', 'dark']}": "red, dark",
    "{tags: [red, dark]}": "red, dark",
}

MARKS = {
    "red, dark<|im_end|>": "red, dark",
    "red, dark</s>": "red, dark",
    "red, dark<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHere are others: green, happy": "red, dark",
    "red, darkassistant\n\nHere are others: green, happy": "red, dark",
    "red, dark<|im_end|>\n<|im_start|>user\nThank you<|im_end|>": "red, dark",
    "red, dark\nUSER: And what about the mood?\nASSISTANT: tense": "red, dark",
    "USER: <image>\nThis image is a movie poster, please conclude the tags of it: focus on color, tone. ASSISTANT: red, dark": "red, dark",
    "[INST] <image>\nplease conclude the tags [/INST] red, dark</s>": "red, dark",
    "system\nYou are a helpful assistant.\nuser\nplease conclude the tags of it: focus on color\nassistant\nred, dark": "red, dark",
    "<|im_start|>user\nconclude the tags<|im_end|>\n<|im_start|>assistant\nred, dark<|im_end|>": "red, dark",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nconclude the tags<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nred, dark<|eot_id|>": "red, dark",
    "<start_of_turn>model\nred, dark<end_of_turn>": "red, dark",
    "ASSISTANT: red, dark": "red, dark",
    "### Response:\nred, dark": "red, dark",
    "<think>\nThe user wants tags. The poster has: green, happy.\n</think>\n\nred, dark": "red, dark",
    "Okay, the poster shows a man, a gun, a city.\n</think>\n\nred, dark": "red, dark",
    "red, dark\n<think>were these right, or should I say green": "red, dark",
    "<|channel|>analysis<|message|>We need tags: green.<|end|><|start|>assistant<|channel|>final<|message|>red, dark<|return|>": "red, dark",
    "[THINK]green?[/THINK]red, dark": "red, dark",
    "<answer>red, dark</answer>": "red, dark",
    "<tags>\n<tag>red</tag>\n<tag>dark</tag>\n</tags>": "red, dark",
    "red, dark<｜end▁of▁sentence｜>": "red, dark",
}

LOOPS = {
    "red, blue, red, blue, red, blue, red, blue, red, bl": "red, blue",
    "red, dark, city, city, city, city, city, city, city": "red, dark, city",
    "red, dark, " + "night sky " * 300: "red, dark, night sky",
    "1. red\n2. dark\n" + "\n".join(f"{n}. dark" for n in range(3, 200)): "red, dark",
    '{"tags": ["red", "dark"' + ', "dark"' * 500: "red, dark",
    "New York, New York": "new york",
}

READ = {**LISTS, **AROUND, **JSON, **MARKS, **LOOPS}

UNUSABLE = {
    "": "it is empty",
    " \n\t": "it is empty",
    "<|im_end|>": "it is empty",
    "<think>\n</think>\n\n": "it is empty",
    "<think>The user wants tags: red, dark": "it ends before its thoughts do",
    "I'm sorry, but I can't assist with that.": "it refuses",
    "I’m sorry, I cannot help with identifying people, places, or things in this image.": "it refuses",
    "I cannot provide tags for this image.": "it refuses",
    "I'm unable to view images, but if you describe it, I can help.": "it refuses",
    "Sorry, I can't help with that request.": "it refuses",
    "As an AI language model, I do not have the ability to see images.": "it refuses",
    "Unfortunately, no image was attached. Please upload it, and I will tag it.": "it refuses",
    '{"error": "I cannot process this image"}': "it refuses",
    '{"tags": ["I\'m sorry, I can\'t assist with that"]}': "it refuses",
    "It seems like there is no image attached. Could you please share it?": "it refuses",
    "poster, poster, poster, poster, poster, poster": "it repeats itself",
    "dark " * 400: "it repeats itself",
    '{"tags": ["dark", "dark", "dark", "dark", "dark", "da': "it repeats itself",
    "The poster shows a man who stands in the rain. " * 30: "it repeats itself",
    "a" * 5000: "it repeats itself",
    "!" * 5000: "it repeats itself",
    "红色，黑暗，神秘，城市": "it is in another script than the question (CJK)",
    "这张图片是一张电影海报，画面以红色和黑色为主，充满了神秘的气氛，一个男人站在雨中。": "it is in another script than the question (CJK)",
    '{"tags": ["красный", "тёмный"]}': "it is in another script than the question (CYRILLIC)",
    "The poster features a man in a suit, standing in front of a city, with dark colors.": "it gives sentences instead of tags",
    "The image is a movie poster. It depicts a woman with a sword, and a dragon flies behind her.": "it gives sentences instead of tags",
    "In the image there is a man, a woman, and a dog.": "it gives sentences instead of tags",
    "None": "it gives no tags",
    "No tags": "it gives no tags",
    "7": "it gives no tags",
    '{"tags": []}': "it gives no tags",
    "Sure! Here are the tags:": "it gives no tags",
    "🎬🔥": "it gives no tags",
    # the question's own words
    "color, tone, character, expression, setting, symbolism, artistic style, cultural elements": "it gives no tags",
}


@pytest.mark.parametrize(("text", "tags"), READ.items(), ids=lambda value: value[:40])
def test_the_tags_are_read(text, tags):
    answer = read_answer(text, LIMIT)
    assert answer.tags == tuple(tags.split(", ")) and answer.problem == ""


@pytest.mark.parametrize(("text", "problem"), UNUSABLE.items(), ids=lambda value: value[:40])
def test_what_is_wrong_is_told(text, problem):
    answer = read_answer(text, LIMIT)
    assert (answer.tags, answer.problem) == ((), problem)


def test_tags_in_another_script_are_left_out_among_others():
    assert read_answer("red, 黑暗, lone hero, 1984", LIMIT).tags == ("red", "lone hero", "1984")


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_more_tags_than_asked_are_cut(limit):
    words = "red dark hero city rain noir gun night hat smoke".split()
    assert read_answer(", ".join(words), limit).tags == tuple(words[:limit])
    assert read_answer(json.dumps({"tags": words}), limit).tags == tuple(words[:limit])


# ---- what holds for every answer


def wrapped(text: str) -> list[str]:
    """The same answer as other models would hand it over."""
    return [
        f"  \n{text}\n\n",
        f"<think>\nLet me see: green, happy.\n</think>\n{text}",
        f"{text}<|im_end|>\n<|im_start|>user\nmore, please",
        f"{text}</s>",
        f"<|im_start|>assistant\n{text}",
        f"ASSISTANT: {text}",
    ]


@pytest.mark.parametrize("text", [*LISTS, *AROUND, *JSON], ids=lambda value: value[:40])
def test_thoughts_and_template_marks_change_nothing(text):
    assert {read_answer(other, LIMIT) for other in wrapped(text)} == {read_answer(text, LIMIT)}


@pytest.mark.parametrize("text", READ, ids=lambda value: value[:40])
def test_tags_are_normalised_distinct_and_read_again_alike(text):
    tags = read_answer(text, LIMIT).tags
    assert all(split_tags(tag) == (tag,) for tag in tags)
    assert len({merge_key(tag) for tag in tags}) == len(tags)
    assert read_answer(", ".join(tags), LIMIT).tags == tags


STRICT = [text for text in JSON if "'" not in text and "{tags" not in text and "\\u" not in text]


@pytest.mark.parametrize("text", STRICT, ids=lambda value: value[:40])
def test_however_json_is_cut_only_whole_tags_come_of_it(text):
    whole = set(read_answer(text, LIMIT).tags)
    for end in range(text.rfind('"')):
        if "{" in text[:end] or "[" in text[:end]:
            assert set(read_answer(text[:end], LIMIT).tags) <= whole, text[:end]


def test_noise_gives_tags_or_a_problem_and_never_an_error():
    random_ = random.Random(0)
    pieces = [
        *READ,
        *UNUSABLE,
        "\x00",
        "\ud83d",
        "{",
        "}",
        "[",
        '"',
        "\\",
        ":",
        "<think>",
        "</think>",
        "**",
        "1.",
        "，",
        "\u202e",
    ]
    for _ in range(1500):
        text = "".join(
            piece[random_.randrange(len(piece) or 1) :][:60]
            for piece in random_.choices(pieces, k=random_.randint(1, 8))
        )
        answer = read_answer(text, LIMIT)
        assert bool(answer.tags) != bool(answer.problem)
        assert len(answer.tags) <= LIMIT and all(0 < len(tag) <= 60 for tag in answer.tags)


HOSTILE = {
    "one word": "a",
    "tags": "red, ",
    "brackets": "[",
    "objects": '{"a":',
    "nested with commas": "[,",
    "quotes": '"',
    "escapes": "\\",
    "thoughts": "</think>",
    "unclosed thoughts": "<think>",
    "marks": "<|im_end|>",
    "turns": "USER: x ASSISTANT: ",
    "dashes": "- ",
    "quoted dashes": '"- ',
    "numbers": "1. ",
    "spaces": " ",
    "lines": "\n",
    "colons": "a: ",
    "parentheses": "(a b ",
    "less than": "<a",
    "words": "the tags ",
    "ligatures": "\ufdfa",
}


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE.keys())
def test_ten_megabytes_take_bounded_time(piece):
    text = piece * (10_000_000 // len(piece))
    start = time.process_time()
    read_answer(text, LIMIT)
    assert time.process_time() - start < 5
