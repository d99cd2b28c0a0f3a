"""`iamg-train demo`: one item personalised for two users in a real ComfyUI, and a page that shows it."""

import json
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

import torch

from iamg.interactions import UserHistory
from iamg.interests import item_tags
from iamg.pictures import resolve_inside
from iamg.pool import EmbeddingPool
from iamg.tagging import make_tagger
from iamg_train import comfy_server, pool_commands
from iamg_train.comfy_server import ComfyServer
from iamg_train.demo_catalogue import DEMO_OBJECTIVE, DEMO_USERS, write_catalogue
from iamg_train.demo_page import Drawing, UserResult, write_page
from iamg_train.demo_users import choose_histories
from iamg_train.demo_weights import WeightFiles, make_demo_weights
from iamg_train.pool_commands import console

PACK = Path(__file__).resolve().parents[1]
WORKFLOW = PACK / "workflows" / "api" / "personalise_poster.json"
INPUT_FOLDER = PurePosixPath("iamg_demo")  # under ComfyUI's input/

# what a weight file is called in ComfyUI: its folder of models, the node that loads it, that node's field
MODEL_PLACES = {
    "checkpoint": ("checkpoints", "CheckpointLoaderSimple", "ckpt_name"),
    "clip_vision": ("clip_vision", "CLIPVisionLoader", "clip_name"),
    "ip_adapter": ("ipadapter", "IAMGAdapterLoader", "adapter"),
}


@dataclass(frozen=True)
class Task:
    """What is drawn: everything a run of the workflow depends on, besides user and interest weight."""

    items: Path
    interactions: Path
    weights: WeightFiles
    random_weights: bool
    pool: Path


def run(arguments: Namespace) -> int:
    comfyui = None if arguments.server else find_comfyui()
    task = prepare(arguments)
    page = arguments.out / "index.html"
    with EmbeddingPool.open(task.pool) as pool:
        histories = choose(arguments, task, pool)
        with connected(arguments.server, comfyui, arguments.out.resolve() / "comfyui", task) as server:
            prompt = fill(read_workflow(), arguments, task)
            check_models(server, task)
            upload(server, task, pool, histories)
            results = [draw(server, prompt, history, arguments, pool) for history in histories]
        write_page(page, results, pool_size=len(pool), random_weights=task.random_weights)
    console.print(f"open [bold]{page}[/]")
    return 0


def prepare(arguments: Namespace) -> Task:
    """The catalogue, the weights and the pool, made where they are not given or not there yet."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    items, interactions = catalogue(arguments)
    given = [arguments.checkpoint, arguments.clip_vision, arguments.ip_adapter]
    if any(given) and not all(given):
        raise ValueError("give --checkpoint, --clip-vision and --ip-adapter together, or none of them")
    for path in filter(None, given):
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist")
    if all(given):
        weights = WeightFiles(*(path.resolve() for path in given))
    else:
        with console.status("making random weights in the real formats"):
            weights = make_demo_weights(arguments.out.resolve() / "models", arguments.seed)
    arguments.checkpoint, arguments.clip_vision = weights.checkpoint, weights.clip_vision
    pool = arguments.out / "comfyui" / "models" / "iamg_pools" / f"iamg_demo_{items.name}"
    if not is_current(pool, arguments, items):
        pool_commands.build_from_folder(arguments, items, pool)
    return Task(items, interactions, weights, not all(given), pool)


def catalogue(arguments: Namespace) -> tuple[Path, Path]:
    """The folder of items and the interactions file: the user's own, or the drawn catalogue."""
    if arguments.items:
        interactions = arguments.interactions or arguments.items / "interactions.csv"
        if not interactions.is_file():
            raise FileNotFoundError(f"{interactions} does not exist; give --interactions FILE")
        return arguments.items.resolve(), interactions.resolve()
    if arguments.interactions:
        raise ValueError("--interactions needs --items, the folder of the items that it names")
    drawn = arguments.out.resolve() / "catalogue"
    if not drawn.exists():
        with console.status("drawing the catalogue"):
            write_catalogue(drawn)
    return drawn, drawn / "interactions.csv"


def is_current(pool: Path, arguments: Namespace, items: Path) -> bool:
    """Whether the pool is there, made as the arguments say, after its items and weights were last changed."""
    manifest = pool / "pool.json"
    if not manifest.is_file():
        return False
    sources = chain([arguments.checkpoint, arguments.clip_vision], items.rglob("*"))
    if manifest.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        return False
    made = json.loads(manifest.read_text(encoding="utf-8"))
    wanted = (arguments.crop, arguments.scenario, make_tagger(arguments.tagger).name)
    return (made.get("crop"), made.get("scenario"), made.get("tagger")) == wanted


@contextmanager
def connected(url: str | None, comfyui: Path | None, base: Path, task: Task) -> Iterator[ComfyServer]:
    """The ComfyUI to draw with: the one at `url`, else one started from `comfyui` with base directory `base`."""
    if url:
        yield comfy_server.attach(url)
        return
    lay_out(base, task)
    log = base / "comfyui.log"
    with console.status(f"starting ComfyUI (log: {log})") as status:
        with comfy_server.started(comfyui, base, log, cpu=not torch.cuda.is_available()) as server:
            status.stop()
            yield server


def find_comfyui() -> Path:
    """COMFYUI_PATH, or what `make comfyui` fetched, or the ComfyUI in whose custom_nodes/ this pack lies."""
    given = os.environ.get("COMFYUI_PATH")
    places = [Path(given)] if given else [PACK / ".comfyui", PACK.parents[1]]
    for place in places:
        if (place / "comfy_api").is_dir():
            return place.resolve()
    looked = ", ".join(map(str, places))
    raise FileNotFoundError(f"no ComfyUI in {looked}; run `make comfyui`, set COMFYUI_PATH, or give --server URL")


def lay_out(base: Path, task: Task) -> None:
    """ComfyUI's base directory: this pack among its custom nodes, the weights in its folders of models."""
    (base / "input").mkdir(parents=True, exist_ok=True)
    link(PACK, base / "custom_nodes" / "ComfyUI-IAMG")
    for name, (folder, _, _) in MODEL_PLACES.items():
        file = getattr(task.weights, name)
        link(file, base / "models" / folder / file.name)


def link(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(source)


def choose(arguments: Namespace, task: Task, pool: EmbeddingPool) -> list[UserHistory]:
    """The histories to draw for."""
    drawn = arguments.items is None
    return choose_histories(
        task.interactions,
        pool.contains,
        lambda item: frozenset(item_tags(pool.item(item).tags)),
        arguments.users or (list(DEMO_USERS) if drawn else None),
        arguments.objective or (DEMO_OBJECTIVE if drawn and not arguments.users else None),
        arguments.history_length,
        arguments.min_rating,
    )


def read_workflow() -> dict:
    if not WORKFLOW.is_file():
        raise FileNotFoundError(f"{WORKFLOW} does not exist; run from a clone installed with `pip install -e .`")
    return json.loads(WORKFLOW.read_text(encoding="utf-8"))


def fill(prompt: dict, arguments: Namespace, task: Task) -> dict:
    """The shipped workflow with this run's files and numbers in it."""
    for name, (_, node, field) in MODEL_PLACES.items():
        put(prompt, node, **{field: getattr(task.weights, name).name})
    put(prompt, "EmbeddingPoolLoader", pool=task.pool.name)
    put(
        prompt,
        "IAMGUserHistory",
        interactions=str(INPUT_FOLDER / task.interactions.name),
        history_length=arguments.history_length,
        min_rating=arguments.min_rating,
    )
    put(prompt, "InterestRewrite", scenario=arguments.scenario)
    put(prompt, "TopKRetriever", top_k=arguments.top_k)
    put(prompt, "EmptyLatentImage", width=arguments.width, height=arguments.height, batch_size=1)
    put(prompt, "KSampler", seed=arguments.seed, steps=arguments.steps)
    return prompt


def put(prompt: dict, node: str, **values) -> None:
    """Set inputs of the workflow's one node of this class."""
    prompt[node_id(prompt, node)]["inputs"].update(values)


def node_id(prompt: dict, node: str) -> str:
    found = [name for name, content in prompt.items() if content["class_type"] == node]
    if len(found) != 1:
        raise ValueError(f"{WORKFLOW.name} has {len(found)} {node} nodes; the demo needs exactly one")
    return found[0]


def check_models(server: ComfyServer, task: Task) -> None:
    """ValueError naming a file or a pool that the server does not offer."""
    places = [(getattr(task.weights, name), *place) for name, place in MODEL_PLACES.items()]
    for path, folder, node, field in [*places, (task.pool, "iamg_pools", "EmbeddingPoolLoader", "pool")]:
        if path.name not in server.available(node, field):
            raise ValueError(
                f"the ComfyUI at {server.url} has no {path.name} in its models/{folder}/; copy or link {path} there"
            )


def upload(server: ComfyServer, task: Task, pool: EmbeddingPool, histories: list[UserHistory]) -> None:
    """Put the interactions and the pictures that the histories name under ComfyUI's input/."""
    server.upload(task.interactions, str(INPUT_FOLDER))
    for item_id in dict.fromkeys(chain.from_iterable((h.objective, *h.items) for h in histories)):
        picture = PurePosixPath(pool.item(item_id).picture)
        server.upload(resolve_inside(task.items, str(picture)), str(INPUT_FOLDER / picture.parent))


def draw(
    server: ComfyServer, prompt: dict, history: UserHistory, arguments: Namespace, pool: EmbeddingPool
) -> UserResult:
    """Run the workflow for one user, once for each interest weight, with the same noise."""
    put(prompt, "IAMGUserHistory", user_id=history.user_id, objective_id=history.objective)
    drawings = []
    for weight in arguments.interest_weights:
        put(prompt, "IAMGAdapterApply", interest_weight=weight)
        outputs = run_shown(
            server, prompt, f"drawing for {history.user_id}, interest weight {weight:g}", arguments.steps
        )
        saved = outputs[node_id(prompt, "SaveImage")]["images"]
        drawings.append(Drawing(weight, [server.picture(image) for image in saved]))

    def told(node: str) -> dict:
        return outputs[node_id(prompt, node)]["iamg"][0]

    def thumbnail(item_id: str):
        return pool.thumbnail(pool.item(item_id).row)

    return UserResult(told("IAMGUserHistory"), told("InterestRewrite"), told("IRAFuse"), drawings, thumbnail)


def run_shown(server: ComfyServer, prompt: dict, title: str, steps: int) -> dict[str, dict]:
    """Run a prompt with a progress bar of its sampler's steps."""
    sampler = node_id(prompt, "KSampler")
    with pool_commands.progress_bar() as bar:
        task = bar.add_task(title, total=steps)

        def show(node: str, step: int, _: int) -> None:
            if node == sampler:
                bar.update(task, completed=step)

        outputs = server.run(prompt, show)
        bar.update(task, completed=steps)
    return outputs
