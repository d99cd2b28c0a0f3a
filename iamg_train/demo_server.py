"""The demo's ComfyUI: one that runs already, or one of its own; with the pack, the weights and the pictures in it."""

import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path, PurePosixPath

import torch

from iamg.interactions import UserHistory
from iamg.pictures import resolve_inside
from iamg.pool import EmbeddingPool
from iamg_train import comfy_server
from iamg_train.comfy_server import ComfyServer
from iamg_train.demo_drawing import mask_name, mask_of
from iamg_train.demo_graph import Graph
from iamg_train.demo_task import Task
from iamg_train.pool_commands import console

PACK = Path(__file__).resolve().parents[1]


def find_comfyui() -> Path:
    """COMFYUI_PATH, or what `make comfyui` fetched, or the ComfyUI in whose custom_nodes/ this pack lies."""
    given = os.environ.get("COMFYUI_PATH")
    places = [Path(given)] if given else [PACK / ".comfyui", PACK.parents[1]]
    for place in places:
        if (place / "comfy_api").is_dir():
            return place.resolve()
    looked = ", ".join(map(str, places))
    raise FileNotFoundError(f"no ComfyUI in {looked}; run `make comfyui`, set COMFYUI_PATH, or give --server URL")


@contextmanager
def connected(arguments: Namespace, comfyui: Path | None, task: Task, graph: Graph) -> Iterator[ComfyServer]:
    """The ComfyUI to draw with: the one at --server, else one started from `comfyui` with a base directory of its own."""
    if arguments.server:
        yield comfy_server.attach(arguments.server)
        return
    base = arguments.out.resolve() / "comfyui"
    lay_out(base, task, graph)
    log = base / "comfyui.log"
    with console.status(f"starting ComfyUI (log: {log})") as status:
        with comfy_server.started(comfyui, base, log, cpu=not torch.cuda.is_available()) as server:
            status.stop()
            yield server


def lay_out(base: Path, task: Task, graph: Graph) -> None:
    """ComfyUI's base directory: this pack among its custom nodes, the weights in its folders of models."""
    (base / "input").mkdir(parents=True, exist_ok=True)
    link(PACK, base / "custom_nodes" / "ComfyUI-IAMG")
    for name, (folder, _, _) in graph.model_places().items():
        file = getattr(task.weights, name)
        link(file, base / "models" / folder / file.name)


def link(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(source)


def check_models(server: ComfyServer, task: Task, graph: Graph) -> None:
    """ValueError naming a file or a pool that the server does not offer."""
    places = [(getattr(task.weights, name), *place) for name, place in graph.model_places().items()]
    for path, folder, node, field in [*places, (task.pool, "iamg_pools", "EmbeddingPoolLoader", "pool")]:
        if path.name not in server.available(node, field):
            raise ValueError(
                f"the ComfyUI at {server.url} has no {path.name} in its models/{folder}/; copy or link {path} there"
            )


def upload(server: ComfyServer, task: Task, pool: EmbeddingPool, histories: Sequence[UserHistory]) -> None:
    """Put the interactions, and the pictures and masks of what the histories name, under ComfyUI's input/."""
    server.upload(task.interactions, str(task.uploaded))
    for item_id in dict.fromkeys(chain.from_iterable((h.objective, *h.items) for h in histories)):
        picture = PurePosixPath(pool.item(item_id).picture)
        server.upload(resolve_inside(task.items, str(picture)), str(task.uploaded / picture.parent))
    for objective in {history.objective for history in histories}:
        if mask := mask_of(objective, task.items):
            server.upload(mask, "", mask_name(mask, task.uploaded))
