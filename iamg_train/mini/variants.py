"""What the evaluation compares: the method, the method without one of its parts, and sweeps of its numbers."""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace

STOCK, TRAINED, TRAINED_PAPER = "ip_adapter", "adapter", "adapter_paper"
"""Adapters: what fine-tuning starts from (IRA is the identity), what it leads to, and that without leave-one-out."""
ITEM, TEXTS, HISTORY = "item", "texts", "history"
"""Whose pictures Ψ is: those nearest to the item's picture (Eq 9), those of the items whose texts are in Φ, or the history's."""


@dataclass(frozen=True)
class Variant:
    """How a picture is made. The defaults are the full method."""

    name: str
    rewritten: bool = True  # the U-Net reads T*, else T_i; IRA asks with T* either way
    image_weight: float = 1.0
    text_weight: float = 1.0  # λ1
    interest_weight: float = 0.2  # λ2
    interest_tags: int = 3  # H
    top_k: int = 5  # K
    foreground: bool = True  # the picture condition is the subject on white, else the whole picture
    leave_one_out: bool = True  # else the pool holds every item, the objective too
    pictures_of: str = ITEM
    weights: str = TRAINED

    def differences(self) -> dict[str, object]:
        """What is not as in the full method, by field."""
        names = [field.name for field in fields(self) if field.name != "name"]
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(FULL, name)}


FULL = Variant("full method")
BASE = Variant("base model", rewritten=False, image_weight=0, interest_weight=0, weights=STOCK)
VARIANTS = (
    BASE,
    replace(BASE, name="base + picture", image_weight=1),
    Variant("rewrite only (stock adapter)", interest_weight=0, weights=STOCK),
    Variant("rewrite only", interest_weight=0),
    Variant("IRA only", rewritten=False),
    Variant("IRA only, Ψ of Φ's items", rewritten=False, pictures_of=TEXTS),
    Variant("IRA only, Ψ of the history", rewritten=False, pictures_of=HISTORY),
    Variant("IRA only, Ψ of the history, λ2 = 0.5", rewritten=False, pictures_of=HISTORY, interest_weight=0.5),
    Variant("untrained IRA", weights=STOCK),
    Variant("without foreground", foreground=False),
    Variant("without leave-one-out", leave_one_out=False),
    Variant("Ψ of Φ's items", pictures_of=TEXTS),
    Variant("Ψ of Φ's items, λ2 = 0.5", pictures_of=TEXTS, interest_weight=0.5),
    Variant("Ψ of the history", pictures_of=HISTORY),
    FULL,
)


@dataclass(frozen=True)
class Sweep:
    """The full method with one of its numbers changed."""

    symbol: str
    field: str
    values: tuple[float, ...]

    @property
    def full(self) -> float:
        """The full method's value."""
        return getattr(FULL, self.field)

    def variant(self, value: float) -> Variant:
        return replace(FULL, name=f"{self.symbol} = {value:g}", **{self.field: value})


SWEEPS = (
    Sweep("λ2", "interest_weight", (0, 0.1, 0.2, 0.3, 0.5, 1)),
    Sweep("λ1", "text_weight", (0, 0.5, 1)),
    Sweep("H", "interest_tags", (1, 2, 3, 5, 8)),
    Sweep("K", "top_k", (1, 3, 5, 10)),
)
LONGEST_K = max(value for sweep in SWEEPS if sweep.field == "top_k" for value in sweep.values)


def variants_of(weights: Collection[str]) -> tuple[Variant, ...]:
    """VARIANTS with the adapters that there are: where none was trained without leave-one-out, the full method's."""
    own = TRAINED_PAPER if TRAINED_PAPER in weights else TRAINED
    return tuple(x if x.leave_one_out else replace(x, weights=own) for x in VARIANTS)
