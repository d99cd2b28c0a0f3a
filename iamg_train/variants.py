"""Variants of the method for ablations: one part taken out, or one number changed, and the rest as the run has it."""

from dataclasses import dataclass, field
from pathlib import Path

from iamg_train.config import SECTIONS, Config, load_config

NUMBERS = {"lambda1": "text_weight", "lambda2": "interest_weight", "H": "interest_tags", "K": "top_k"}
"""The settings that `NAME=NUMBER` changes, by the paper's symbol in ASCII."""
SYMBOLS = {"lambda1": "λ1", "lambda2": "λ2"}


@dataclass(frozen=True)
class Variant:
    """How pictures are drawn otherwise than the run's settings say."""

    name: str
    changes: dict[str, object] = field(default_factory=dict)  # of settings, by key
    rewritten: bool = True  # the U-Net reads T*, else T_i; IRA asks with T* either way

    def config(self, path: Path | None, overrides: dict[str, object]) -> Config:
        """The run's settings with the variant's; see `load_config`.

        ValueError where a flag gives what the variant changes, and where the run lacks already what the variant takes out.
        """
        if given := self.changes.keys() & overrides.keys():
            raise ValueError(
                f"variant '{self.name}' sets {', '.join(sorted(given))}; leave the flag out, or the variant"
            )
        if self.name in PARTS and self.changes and self.is_run(load_config(path, overrides)):
            raise ValueError(f"variant '{self.name}' is what the run does anyway: {self._told()}; leave it out")
        return load_config(path, overrides | self.changes)

    def is_run(self, config: Config) -> bool:
        """Whether pictures of this variant are those of the run itself."""
        return self.rewritten and all(own_value(config, key) == value for key, value in self.changes.items())

    def _told(self) -> str:
        return ", ".join(f"{key} = {value}" for key, value in self.changes.items())


def own_value(config: Config, key: str) -> object:
    """What the run draws with."""
    if key == "interest_weight":
        return config.method.drawn_interest_weight
    return next(getattr(getattr(config, name), key) for name in SECTIONS if key in SECTIONS[name].model_fields)


FULL = Variant("full")
PARTS = {
    variant.name: variant
    for variant in (
        FULL,
        Variant("without-foreground", {"foreground": "none"}),
        Variant("without-rewrite", rewritten=False),
        Variant("without-ira", {"interest_weight": 0.0}),
        Variant("without-leave-one-out", {"leave_one_out": False}),
        Variant("pooled-query", {"query": "pooled"}),
    )
}
KNOWN = ", ".join([*PARTS, *(f"{name}=NUMBER" for name in NUMBERS)])


def parse_variant(text: str) -> Variant:
    """The variant of that name; ValueError naming those that there are."""
    name, equals, number = text.partition("=")
    if text in PARTS:
        return PARTS[text]
    try:
        return vary(name, float(number)) if equals else PARTS[text]
    except (LookupError, ValueError):
        raise ValueError(f"there is no variant '{text}'; expected one of: {KNOWN}") from None


def vary(name: str, value: float) -> Variant:
    """The run with one of the NUMBERS changed; the settings' own limits are theirs to check."""
    whole = name in ("H", "K") and value.is_integer()
    return Variant(f"{name}={value:g}", {NUMBERS[name]: int(value) if whole else value})
