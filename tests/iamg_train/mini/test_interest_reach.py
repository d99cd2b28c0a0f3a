"""How far interests reach, against loops over the pool's own search and the formulas of Eq 10 and 11."""

import numpy as np
import pytest
import torch
from small_mini import evaluation, write_mini

from iamg.adapter import load_adapter
from iamg.pool import EmbeddingPool
from iamg_train.histories import Split
from iamg_train.mini import evaluate
from iamg_train.mini.case_samples import prepare_cases
from iamg_train.mini.cases import choose_cases
from iamg_train.mini.evaluation_arguments import weights_of
from iamg_train.mini.interest_reach import PHI, PSI, THEIR_OWN, interest_moves, loved_shares
from iamg_train.mini.measures import FIDELITY, OTHER, OWN
from iamg_train.mini.variants import FULL, HISTORY, ITEM, STOCK, TEXTS
from iamg_train.mini.world import TEST_FRACTION, read_world
from iamg_train.objectives import Objectives
from iamg_train.pool_commands import progress_bar

USERS = 3


@pytest.fixture(scope="module")
def reach(tmp_path_factory):
    mini = write_mini(tmp_path_factory.mktemp("mini"))
    arguments = evaluation(mini, tmp_path_factory.mktemp("out"))
    config, world = evaluate._config(arguments, "mini poster"), read_world(mini["world"])
    with EmbeddingPool.open(mini["pool"]) as pool, progress_bar() as bar:
        objectives = Objectives(config.data.items, pool)
        cases = choose_cases(config.data, world, pool, objectives, Split(TEST_FRACTION), USERS, 0)
        samples = prepare_cases(config, cases, [FULL], pool, objectives, bar)
    return cases, world, samples, weights_of(arguments)


def test_shares_are_counted_on_the_posters(reach):
    cases, world, samples, _ = reach
    shares = loved_shares(samples, [world.tastes[case.own.user_id] for case in cases], world.posters)
    for user, case in enumerate(cases):
        loved = world.tastes[case.own.user_id].loved
        for measure, history in ((OWN, case.own), (OTHER, case.other)):
            carried = [[world.posters[x].has(*value) for value in loved] for x in history.items]
            assert shares[THEIR_OWN][measure][user] == pytest.approx(np.mean(carried))
    for name in (THEIR_OWN, PHI, PSI):
        assert np.array_equal(shares[name][FIDELITY], shares[name][OWN] - shares[name][OTHER])
    assert not shares[PSI][FIDELITY].any()  # Eq 9 does not know the user


def naive_ira(query, texts, images, matrices, heads):
    """Eq 10 and Eq 11, a head and a row after the other; (tokens, width)."""
    wq, wk, wv = matrices
    for context in (texts.flatten(0, 1), images.flatten(0, 1)):
        q, k, v = query @ wq.T, context @ wk.T, context @ wv.T
        part = q.shape[1] // heads
        columns = [slice(n * part, (n + 1) * part) for n in range(heads)]
        query = torch.cat([torch.softmax(q[:, c] @ k[:, c].T / part**0.5, 1) @ v[:, c] for c in columns], 1)
    return query


@pytest.mark.parametrize("pictures_of", [ITEM, TEXTS, HISTORY])
def test_moves_are_distances_of_the_formulas(reach, pictures_of):
    _, _, samples, weights = reach
    adapter = load_adapter(weights[STOCK]).float()
    matrices = [getattr(adapter.ira, name).weight for name in ("to_q", "to_k", "to_v")]

    def interest(sample):
        ids = {ITEM: sample.retrieved_ids, TEXTS: sample.retrieved_text_ids, HISTORY: sample.history}[pictures_of]
        images = adapter.image_proj(samples.prepared.image_embeds(ids[: FULL.top_k]))
        texts = torch.stack([samples.inputs.tokens(x) for x in sample.retrieved_texts[: FULL.top_k]])
        return naive_ira(samples.inputs.tokens(sample.text), texts, images, matrices, adapter.ira.heads)

    with torch.no_grad():
        own, other = (torch.stack([interest(x) for x, _ in samples.of(FULL, of)]) for of in (True, False))
    cases = [((own[n] - own[n - 1]) ** 2).mean() for n in range(USERS)]
    expected = [((a - b) ** 2).mean() / np.mean(cases) for a, b in zip(own, other, strict=True)]
    assert interest_moves(samples, weights)[STOCK][pictures_of] == pytest.approx(np.array(expected), rel=1e-4)
