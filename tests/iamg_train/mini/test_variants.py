"""What is compared: each variant lacks what its name says, and each sweep meets the full method."""

import pytest

from iamg_train.mini.variants import FULL, HISTORY, STOCK, SWEEPS, TEXTS, TRAINED, TRAINED_PAPER, VARIANTS, variants_of

LACKS = {
    "base model": {"rewritten": False, "image_weight": 0, "interest_weight": 0, "weights": STOCK},
    "base + picture": {"rewritten": False, "interest_weight": 0, "weights": STOCK},
    "rewrite only (stock adapter)": {"interest_weight": 0, "weights": STOCK},
    "rewrite only": {"interest_weight": 0},
    "IRA only": {"rewritten": False},
    "IRA only, Ψ of Φ's items": {"rewritten": False, "pictures_of": TEXTS},
    "IRA only, Ψ of the history": {"rewritten": False, "pictures_of": HISTORY},
    "IRA only, Ψ of the history, λ2 = 0.5": {"rewritten": False, "pictures_of": HISTORY, "interest_weight": 0.5},
    "untrained IRA": {"weights": STOCK},
    "without foreground": {"foreground": False},
    "without leave-one-out": {"leave_one_out": False},
    "Ψ of Φ's items": {"pictures_of": TEXTS},
    "Ψ of Φ's items, λ2 = 0.5": {"pictures_of": TEXTS, "interest_weight": 0.5},
    "Ψ of the history": {"pictures_of": HISTORY},
    "full method": {},
}


def test_each_variant_is_the_full_method_without_what_its_name_says():
    full = vars(FULL)
    found = {x.name: {k: v for k, v in vars(x).items() if v != full[k] and k != "name"} for x in VARIANTS}
    assert found == LACKS
    assert (FULL.text_weight, FULL.interest_weight, FULL.weights) == (1, 0.2, TRAINED)


def test_without_leave_one_out_takes_the_weights_that_were_trained_so_where_there_are_any():
    for weights, own in (((STOCK, TRAINED), TRAINED), ((STOCK, TRAINED, TRAINED_PAPER), TRAINED_PAPER)):
        named = {x.name: x.weights for x in variants_of(weights)}
        assert named.pop("without leave-one-out") == own
        assert named == {x.name: x.weights for x in VARIANTS if x.leave_one_out}


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.symbol)
def test_a_sweep_changes_one_number_and_meets_the_full_method(sweep):
    assert sweep.full in sweep.values
    for value in sweep.values:
        changed = {k: v for k, v in vars(sweep.variant(value)).items() if v != vars(FULL)[k] and k != "name"}
        assert changed == ({sweep.field: value} if value != sweep.full else {})
