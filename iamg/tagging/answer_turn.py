"""What a model said for itself: its first turn, without its thoughts and the marks of its chat template."""

import re

THOUGHTS_BEGIN = re.compile(
    r"<(?:think|thinking|thought|reasoning)>|\[THINK\]|◁think▷|<\|channel\|>analysis<\|message\|>"
)
THOUGHTS_END = re.compile(
    r"</(?:think|thinking|thought|reasoning)>|\[/THINK\]|◁/think▷|<\|channel\|>final<\|message\|>"
)
MARK = re.compile(
    r"(?P<assistant><\|im_start\|>\s*assistant\b|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>"
    r"|<start_of_turn>\s*model\b|<\|assistant\|>|\[/INST\]|\bASSISTANT:|^(?:#+ *)?(?:Assistant|Response):|^assistant$)"
    r"|(?P<others><\|im_start\|>\s*\w+|<\|start_header_id\|>\s*\w+\s*<\|end_header_id\|>|<start_of_turn>\s*\w+"
    r"|<\|(?:user|system)\|>|\[INST\]|\b(?:USER|HUMAN):|^(?:#+ *)?(?:User|Human|Instruction):|^(?:user|system)$)"
    r"|<\|[\w ]{1,30}\|>|</?s>|<(?:eos|bos|pad|unk|end_of_turn|image)>|<｜[\w▁ ]{1,40}｜>"
    r"|(?<=\S)assistant$",  # "red, blueassistant": a header whose marks the tokenizer left out
    re.MULTILINE,
)
ECHOED = re.compile(r".*(?::|/INST\])$")  # the assistant's marks that stand right behind the user's words


def first_turn(text: str, longest: int) -> tuple[str, bool]:
    """The model's first turn, of the `longest` characters after its thoughts; and whether thoughts cut it off.

    A prompt that the model echoes before its turn is left out, and so are the turns that it makes up behind it.
    """
    start = max((end.end() for end in THOUGHTS_END.finditer(text)), default=0)
    thoughts = THOUGHTS_BEGIN.search(text, start)
    text = text[start : min(start + longest, thoughts.start() if thoughts else len(text))]
    marks = list(MARK.finditer(text))
    kinds = [None, *(mark.lastgroup for mark in marks)]  # of what precedes each turn
    starts = [0, *(mark.end() for mark in marks)]
    ends = [*(mark.start() for mark in marks), len(text)]
    turns = [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    first = next((place for place, turn in enumerate(turns) if turn), 0)
    follows = marks[first] if first < len(marks) else None
    if kinds[first] == "others" or (follows and follows["assistant"] and ECHOED.match(follows[0])):
        first = kinds.index("assistant") if "assistant" in kinds else first
    return next((turn for turn in turns[first:] if turn), ""), bool(thoughts)
