"""How models word what is not a tag, in the English of the scenarios' prompts."""

import re

from ..tag_text import merge_key

PREAMBLE = re.compile(  # "Sure, here are the tags: ", "Based on the image, I would say: "
    r"(?:sure|certainly|of course|absolutely|great|ok(?:ay)?|yes|here|based|looking|judging|according|considering|given"
    r"|after|the|these|this|below|following|some|i|i'd|i'll|i've|my|in|for|as|to|however|but|sorry|i'm|unfortunately)\b"
    r"[^:]{0,300}:(?!\S)\s*",
    re.IGNORECASE,
)
LEAD = re.compile(  # "The tags of this poster are ", "This image can be described as "
    r"[^:]{0,150}\b(?:(?:tags|keywords)\b[^:,]{0,80}?(?:\b(?:are|include|would be|could be)\s|:(?!\S))"
    r"|(?:tagged|described|summari[sz]ed) (?:as|with|by)\s)\s*",
    re.IGNORECASE,
)
REFUSAL = re.compile(
    r"(?:i'?m|i am|we'?re) (?:\w+ )?(?:sorry|unable|not able|afraid)|sorry\b|(?:my )?apologies|i apologi[sz]e"
    r"|unfortunately|(?:i|we) (?:can'?t|can ?not|could ?n'?t|am not able|won'?t|don'?t|do not|must decline)\b"
    r"|as an? (?:ai|large language model|language model|text-based)\b|unable to|can't \w+ \w+|cannot"
    r"|(?:there is )?no image|it (?:looks|seems) like (?:there|you|no)\b",
    re.IGNORECASE,
)
REMARK = re.compile(
    r"(?:sure(?: thing)?|certainly|of course|absolutely|great|ok(?:ay)?|yes|thanks?(?: you)?|you're welcome|enjoy"
    r"|(?:i )?hope (?:this|that|it|these)\b.*|let me know\b.*|feel free\b.*|please\b.*|if you\b.*|is there anything\b.*"
    r"|(?:could|can|would|do|are) you\b.*|note that\b.*|however\b.*|here (?:you go|it is|they are)"
    r"|(?:these|the above|all) (?:\w+ )?(?:tags|keywords)\b.*)[.!?\s]*",
    re.IGNORECASE,
)
CLOSING = re.compile(r"(?:note|explanation|reasoning|rationale|disclaimer)s?\s*:", re.IGNORECASE)
"""After it comes no tag."""
SUBJECT = re.compile(r"(?:the|this|that|these|it|there|he|she|they|we|i|you|here|in|on|a|an|overall)\b")
VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|shows?|features?|depicts?|displays?|appears?|seems?|conveys?|suggests?|represents?"
    r"|includes?|contains?|portrays?|evokes?|creates?|uses?|gives?|stands?|holds?|wears?|follows?|tells?)\b"
)

CATEGORIES = frozenset(  # by merge_key; what the prompts ask about, and words for tags and answers
    map(
        merge_key,
        "tag keyword label answer output response category color colour tone character expression setting symbolism "
        "element theme location figure mood style material pattern occasion size seasonality season genre palette emotion "
        "atmosphere lighting composition title subject note explanation reasoning rationale disclaimer description".split(),
    )
)
FILLERS = frozenset(  # what may stand beside them
    map(merge_key, "no the and of final main movie film news outfit poster image artistic cultural visual".split())
)
NOTHING = frozenset(
    "none|n/a|na|nil|null|unknown|unclear|not applicable|not specified|not visible|etc|and more|more|others".split("|")
)
