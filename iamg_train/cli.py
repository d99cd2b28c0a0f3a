"""`iamg-train`: builds and checks pools, and runs the demo. What is heavy is imported after parsing."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from iamg.crop import CROPS
from iamg.scenarios import load_scenarios
from iamg.tagging import TAGGERS

INTERRUPTED = 130  # the shell's own status after Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, 1 where a check failed, 2 for bad input with one line on stderr, 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"iamg-train: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; {arguments.after_interrupt}", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="iamg-train", description="I-AM-G without ComfyUI's window.")
    commands = parser.add_subparsers(required=True, metavar="command")

    pools = commands.add_parser("pool", help="build and check embedding pools").add_subparsers(
        required=True, metavar="command"
    )
    build = _command(pools, "build", _run("pool_commands", "build"), "embed a folder of items into a pool")
    build.add_argument("items", type=Path, metavar="DIR", help="pictures with metadata.jsonl, .csv or .parquet")
    build.add_argument("--checkpoint", type=Path, required=True, help="an SD1.5 checkpoint, for its text encoder")
    build.add_argument("--clip-vision", type=Path, required=True, help="a CLIP Vision file")
    build.add_argument("--out", type=Path, default=Path("."), help="the folder of pools, ComfyUI's models/iamg_pools")
    build.add_argument("--name", help="the pool's name (default: the name of DIR)")
    _add_encoding(build)
    build.set_defaults(after_interrupt="what was embedded is kept: run the same command again to go on")

    for name, help_text in (("info", "say what a pool holds"), ("verify", "check every file of a pool")):
        command = _command(pools, name, _run("pool_commands", name), help_text)
        command.add_argument("pool", type=Path, metavar="POOL", help="a pool's folder")

    demo = _command(commands, "demo", _run("demo", "run"), "personalise one item for two users, and show it on a page")
    _add_demo(demo)
    return parser


def _command(commands, name: str, run: Callable, help_text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help_text, description=help_text, formatter_class=_Help)
    command.set_defaults(run=run, after_interrupt="run the same command again to go on")
    return command


def _run(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from importlib import import_module

        return getattr(import_module(f"iamg_train.{module}"), function)(arguments)

    return run


def _add_encoding(command: argparse.ArgumentParser) -> None:
    scenarios = list(load_scenarios())
    command.add_argument("--scenario", choices=scenarios, default=scenarios[0], help="what kind of items these are")
    command.add_argument("--tagger", choices=TAGGERS, default=TAGGERS[0], help="where tags come from")
    command.add_argument("--crop", choices=CROPS, default=CROPS[0], help="how pictures meet CLIP's square window")
    command.add_argument("--batch-size", type=_positive, default=16, help="items encoded together")
    command.add_argument("--device", default="auto", help="where the encoders run: auto, cpu, cuda, cuda:1 ...")
    command.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="what the encoders compute in"
    )


def _add_demo(command: argparse.ArgumentParser) -> None:
    own = command.add_argument_group("your own items (default: a catalogue of drawn posters)")
    own.add_argument("--items", type=Path, metavar="DIR", help="pictures with metadata.jsonl, .csv or .parquet")
    own.add_argument("--interactions", type=Path, metavar="FILE", help="CSV: user_id, item_id, rating, timestamp")
    own.add_argument("--users", nargs="+", metavar="ID", help="whom to draw for (default: two of differing tastes)")
    own.add_argument("--objective", metavar="ID", help="the item to redraw (default: one that the users liked)")
    own.add_argument("--history-length", type=_positive, default=5, help="k: liked items before the objective")
    own.add_argument("--min-rating", type=float, default=4.0, help="from which rating on an item counts as liked")
    _add_encoding(command.add_argument_group("the pool"))
    weights = command.add_argument_group("weights (default: random ones in the real formats; give all three or none)")
    weights.add_argument("--checkpoint", type=Path, metavar="FILE", help="SD1.5")
    weights.add_argument("--clip-vision", type=Path, metavar="FILE", help="the CLIP Vision of the adapter")
    weights.add_argument("--ip-adapter", type=Path, metavar="FILE", help="a stock IP-Adapter, or one trained here")
    drawing = command.add_argument_group("drawing")
    drawing.add_argument(
        "--interest-weights", nargs="+", type=float, default=[0.0, 0.2], metavar="L", help="lambda2, a picture each"
    )
    drawing.add_argument("--top-k", type=_positive, default=5, help="K: texts and pictures retrieved")
    drawing.add_argument("--steps", type=_positive, default=12, help="DDIM steps; 50 with real weights")
    drawing.add_argument("--width", type=_positive, default=256, help="pixels; 512 with real weights")
    drawing.add_argument("--height", type=_positive, default=384, help="pixels; 768 with real weights")
    drawing.add_argument("--seed", type=int, default=0, help="of the noise, and of random weights")
    command.add_argument("--server", metavar="URL", help="a ComfyUI that runs already (default: start one)")
    command.add_argument("--out", type=Path, default=Path("demo"), help="where everything is put")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number
