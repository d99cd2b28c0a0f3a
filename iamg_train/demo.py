"""`iamg-train demo`: one item personalised for two users in a real ComfyUI, and a page that shows it."""

from argparse import Namespace
from collections.abc import Mapping
from itertools import chain
from typing import NamedTuple

from PIL import Image

from iamg.interactions import UserHistory, read_history
from iamg.interests import item_tags
from iamg.pictures import open_picture, resolve_inside
from iamg.pool import EmbeddingPool
from iamg_train.demo_drawing import Drawn, Recipe, draw
from iamg_train.demo_graph import Graph
from iamg_train.demo_page import Page, Result, write_page
from iamg_train.demo_server import check_models, connected, find_comfyui, upload
from iamg_train.demo_task import Task, prepare
from iamg_train.demo_users import choose_histories
from iamg_train.demo_world import choose_opposites
from iamg_train.pool_commands import console

NAMES = ("Ada", "Boris")  # of the two users of the drawn catalogue


class Person(NamedTuple):
    """Whom to draw for, and whose history to draw with instead, to compare."""

    name: str  # on the page
    history: UserHistory
    other_name: str
    other_history: UserHistory | None  # before the same objective


def run(arguments: Namespace) -> int:
    comfyui = None if arguments.server else find_comfyui()
    task = prepare(arguments)
    graph = Graph.read(task.weights.workflow)
    fill(graph, arguments, task)
    with EmbeddingPool.open(task.pool) as pool:
        people = choose_people(arguments, task, pool)
        recipes = {person: plan(person, arguments, graph) for person in people}
        everything = list(chain.from_iterable(recipes.values()))
        with connected(arguments, comfyui, task, graph) as server:
            check_models(server, task, graph)
            upload(server, task, pool, [recipe.history for recipe in everything])
            drawn = draw(server, graph, everything, task.items, task.uploaded)

        def picture(item_id: str) -> Image.Image:
            return open_picture(resolve_inside(task.items, pool.item(item_id).picture))

        results = [collect(person, recipes[person], drawn) for person in people]
        page = arguments.out / "index.html"
        write_page(page, Page(results, len(pool), drawn=task.drawn, mini=task.weights.mini), picture)
    console.print(f"open [bold]{page}[/]")
    return 0


def fill(graph: Graph, arguments: Namespace, task: Task) -> None:
    """Put this run's files and numbers into the shipped workflow."""
    for name, (_, node, field) in graph.model_places().items():
        graph.put(node, **{field: getattr(task.weights, name).name})
    graph.put("EmbeddingPoolLoader", pool=task.pool.name)
    graph.put(
        "IAMGUserHistory",
        interactions=str(task.uploaded / task.interactions.name),
        history_length=arguments.history_length,
        min_rating=arguments.min_rating,
    )
    graph.put("InterestRewrite", scenario=arguments.scenario)
    graph.put("TopKRetriever", top_k=arguments.top_k)
    graph.put("EmptyLatentImage", width=arguments.width, height=arguments.height, batch_size=1)
    graph.put("KSampler", seed=arguments.seed, steps=arguments.steps)


def choose_people(arguments: Namespace, task: Task, pool: EmbeddingPool) -> list[Person]:
    users, objective, names = arguments.users, arguments.objective, {}
    if task.drawn and not users:
        found, users = choose_opposites(task.items, arguments.history_length, arguments.min_rating)
        objective, names = objective or found, dict(zip(users, NAMES, strict=True))
    wanted = arguments.history_length, arguments.min_rating
    histories = choose_histories(
        task.interactions,
        pool.contains,
        lambda item: frozenset(item_tags(pool.item(item).tags)),
        users,
        objective,
        *wanted,
    )

    def before(user_id: str, objective: str) -> UserHistory | None:
        try:
            return read_history(task.interactions, user_id, pool.contains, objective, *wanted)
        except ValueError:  # too little before the item
            return None

    others = [*histories[1:], histories[0]]
    return [
        Person(
            names.get(own.user_id, own.user_id),
            own,
            names.get(other.user_id, other.user_id),
            before(other.user_id, own.objective) if other.user_id != own.user_id else None,
        )
        for own, other in zip(histories, others, strict=True)
    ]


def plan(person: Person, arguments: Namespace, graph: Graph) -> list[Recipe]:
    """What is drawn for someone: the workflow's own weights first, both sweeps, the other's history last."""
    text_weight, interest_weight = (
        graph.value("IAMGAdapterApply", name) for name in ("text_weight", "interest_weight")
    )
    recipes = [Recipe(person.history, text_weight, interest_weight)]
    recipes += [Recipe(person.history, text_weight, weight) for weight in arguments.interest_weights]
    recipes += [Recipe(person.history, weight, interest_weight) for weight in arguments.text_weights]
    if person.other_history:
        recipes.append(Recipe(person.other_history, text_weight, interest_weight))
    return recipes


def collect(person: Person, recipes: list[Recipe], drawn: Mapping[Recipe, Drawn]) -> Result:
    own = {recipe: drawn[recipe].picture for recipe in recipes if recipe.history == person.history}
    other = next((drawn[recipe].picture for recipe in recipes if recipe.history == person.other_history), None)
    usual = recipes[0]
    return Result(
        person.name,
        drawn[usual].told,
        (usual.text_weight, usual.interest_weight),
        {(recipe.text_weight, recipe.interest_weight): picture for recipe, picture in own.items()},
        person.other_name,
        other,
    )
