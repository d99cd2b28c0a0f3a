"""The demo's pictures, drawn by a ComfyUI: each once, all from the same noise."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from iamg.interactions import UserHistory
from iamg.pictures import resolve_inside
from iamg_train.comfy_server import ComfyServer
from iamg_train.demo_graph import Graph
from iamg_train.pool_commands import progress_bar

MASKS = "masks"  # the folder beside the items' pictures, <item id>.png


class Recipe(NamedTuple):
    """One picture: whose history, which item, and the weights of Eq 13."""

    history: UserHistory
    text_weight: float  # λ1
    interest_weight: float  # λ2


class Drawn(NamedTuple):
    """A picture as a PNG file, and what the nodes told on the way, by node."""

    picture: bytes
    told: dict[str, dict]


def draw(
    server: ComfyServer, graph: Graph, recipes: Sequence[Recipe], items: Path, uploaded: PurePosixPath
) -> dict[Recipe, Drawn]:
    """Run the graph for every recipe; items: their folder here, uploaded: the same under ComfyUI's input/."""
    recipes, steps, drawn = list(dict.fromkeys(recipes)), graph.value("KSampler", "steps"), {}
    with progress_bar() as bar:
        task = bar.add_task("drawing", total=len(recipes) * steps)
        for recipe in recipes:
            filled, before = _filled(graph, recipe, items, uploaded), len(drawn) * steps
            sampler = filled.id_of("KSampler")

            def show(node: str, step: int, _: int, sampler: str = sampler, before: int = before) -> None:
                if node == sampler:
                    bar.update(task, completed=before + step)

            outputs = server.run(filled.prompt, show)
            told = {
                node: outputs[filled.id_of(node)]["iamg"][0]
                for node in ("IAMGUserHistory", "InterestRewrite", "IRAFuse")
            }
            (saved,) = outputs[filled.id_of("SaveImage")]["images"]
            drawn[recipe] = Drawn(server.picture(saved), told)
            bar.update(task, completed=before + steps)
    return drawn


def mask_of(item_id: str, items: Path) -> Path | None:
    """The mask of an item's subject, where there is one in the folder of masks."""
    try:
        path = resolve_inside(items, f"{MASKS}/{item_id}.png")
    except ValueError:  # an id that leads elsewhere
        return None
    return path if path.is_file() else None


def mask_name(mask: Path, uploaded: PurePosixPath) -> str:
    """What a mask is called in input/: ComfyUI's window lists no files below it."""
    return f"{uploaded}_mask_{mask.name}"


def _filled(graph: Graph, recipe: Recipe, items: Path, uploaded: PurePosixPath) -> Graph:
    filled, history = graph.copy(), recipe.history
    filled.put("IAMGUserHistory", user_id=history.user_id, objective_id=history.objective)
    filled.put("IAMGAdapterApply", text_weight=recipe.text_weight, interest_weight=recipe.interest_weight)
    if filled.has("LoadImageMask"):
        if mask := mask_of(history.objective, items):
            filled.put("LoadImageMask", image=mask_name(mask, uploaded))
        else:
            filled.remove("LoadImageMask")
    return filled
