"""`iamg-train`: pools, data, training, drawing and the demo. What is heavy is imported after parsing."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from iamg.crop import CROPS
from iamg.scenarios import load_scenarios
from iamg_train.argument_types import multiple_of_8, positive
from iamg_train.config_flags import add_flags
from iamg_train.datasets.commands import add_commands as add_dataset_commands
from iamg_train.drawing_arguments import add_drawing_arguments
from iamg_train.evaluation.evaluate_command import add_commands as add_evaluate_commands
from iamg_train.evaluation.judge_commands import add_commands as add_judge_commands
from iamg_train.evaluation.questionnaire_commands import add_commands as add_questionnaire_commands
from iamg_train.evaluation.variant_commands import add_commands as add_variant_commands
from iamg_train.images.commands import add_commands as add_image_commands
from iamg_train.mini.commands import add_commands as add_mini_commands
from iamg_train.tag_command import add_commands as add_tag_commands
from iamg_train.tagger_arguments import add_tagger_arguments
from iamg_train.variants import KNOWN

DTYPES = ("float16", "float32", "bfloat16")
INTERRUPTED = 130  # the shell's own status after Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, 1 where a check failed, 2 for bad input with one line on stderr, 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    arguments.typed = sys.argv[1:] if argv is None else list(argv)
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

    data = commands.add_parser("data", help="import, download, check and prepare what is trained on").add_subparsers(
        required=True, metavar="command"
    )
    check = _command(
        data, "check", _run("data_commands", "check"), "say what a folder of items and its users are good for"
    )
    check.add_argument("items", type=Path, metavar="DIR", help="pictures with metadata.jsonl, .csv or .parquet")
    check.add_argument("--interactions", type=Path, metavar="FILE", help="CSV (default: interactions.csv in DIR)")
    check.add_argument("--history-length", type=positive, default=5, help="k: liked items before the objective")
    check.add_argument("--min-rating", type=float, default=4.0, help="from which rating on an item counts as liked")
    prepare = _command(
        data,
        "prepare",
        _run("data_commands", "prepare"),
        "write histories, rewritten texts and neighbours for training",
    )
    add_flags(prepare)
    add_dataset_commands(data, _command, _run)
    add_image_commands(data, _command, _run)

    add_tag_commands(commands, _command, _run)

    add_evaluate_commands(commands, _command, _run)
    add_variant_commands(commands, _command, _run)
    add_judge_commands(commands, _command, _run)
    add_questionnaire_commands(commands, _command, _run)

    fit = _command(commands, "fit", _run("fit", "run"), "fine-tune IRA and IP-Adapter on your own catalogue")
    add_flags(fit)
    fit.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    fit.add_argument("--resume", metavar="latest|FILE", help="go on from a checkpoint of this run")
    fit.set_defaults(after_interrupt="a run that had begun goes on with --resume latest")

    weights = _command(
        commands, "export", _run("export", "run"), "write a run's weights as the file that the nodes load"
    )
    weights.add_argument("source", type=Path, metavar="RUN", help="a run's folder, or one of its checkpoints")
    weights.add_argument("--out", type=Path, metavar="FILE", help="default: weights.safetensors in the run's folder")
    weights.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help="what the numbers are stored in")
    weights.add_argument(
        "--ema", action=argparse.BooleanOptionalAction, help="the averaged weights, or not (default: if there are some)"
    )
    weights.add_argument("--ip-adapter", type=Path, metavar="FILE", help="what training started from, if it moved")

    convert = _command(
        commands, "convert", _run("convert", "run"), "turn an IP-Adapter training folder or .bin into .safetensors"
    )
    convert.add_argument(
        "source", type=Path, metavar="SOURCE", help="an accelerate checkpoint folder, .bin or .safetensors"
    )
    convert.add_argument("out", type=Path, metavar="OUT", help="the .safetensors file to write")
    convert.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help="what the numbers are stored in")

    generate = _command(
        commands,
        "generate",
        _run("generate", "run"),
        "draw personalised pictures of a catalogue's users without ComfyUI",
    )
    _add_generate(generate)

    mini = commands.add_parser("mini", help="train and judge the small family that the pack carries")
    add_mini_commands(mini.add_subparsers(required=True, metavar="command"), _command, _run)

    demo = _command(commands, "demo", _run("demo", "run"), "personalise one item for two users, and show it on a page")
    _add_demo(demo)
    return parser


def _command(commands, name: str, run: Callable, help_text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=help_text, description=help_text, formatter_class=_Help, allow_abbrev=False
    )
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
    add_tagger_arguments(command)
    command.add_argument("--crop", choices=CROPS, default=CROPS[0], help="how pictures meet CLIP's square window")
    command.add_argument("--batch-size", type=positive, default=16, help="items encoded together")
    command.add_argument("--device", default="auto", help="where the encoders run: auto, cpu, cuda, cuda:1 ...")
    command.add_argument("--dtype", choices=DTYPES, default="float32", help="what the encoders compute in")


def _add_generate(command: argparse.ArgumentParser) -> None:
    users = command.add_argument_group("users").add_mutually_exclusive_group(required=True)
    users.add_argument("--user", action="append", metavar="ID", help="whom to draw for; may be given again")
    users.add_argument(
        "--users",
        type=Path,
        metavar="FILE",
        help='JSONL of {"user_id": ..., "objective": ...}, objective may be left out',
    )
    command.add_argument("--objective", metavar="ID", help="the item to redraw (default: what a user liked last)")
    # Out is also a key of a run's settings, which this must not change: it has a name of its own.
    command.add_argument(
        "--out", dest="gallery", type=Path, required=True, metavar="DIR", help="where pictures are put"
    )
    command.add_argument(
        "--variant",
        default="full",
        metavar="NAME",
        help="the method with a part taken out or a number changed: " + KNOWN,
    )
    add_drawing_arguments(command)
    add_flags(command, ("data", "model", "method"))


def _add_demo(command: argparse.ArgumentParser) -> None:
    own = command.add_argument_group("your own items (default: a catalogue of drawn posters)")
    own.add_argument("--items", type=Path, metavar="DIR", help="pictures with metadata.jsonl, .csv or .parquet")
    own.add_argument("--interactions", type=Path, metavar="FILE", help="CSV: user_id, item_id, rating, timestamp")
    own.add_argument("--users", nargs="+", metavar="ID", help="whom to draw for (default: two of differing tastes)")
    own.add_argument("--objective", metavar="ID", help="the item to redraw (default: one that the users liked)")
    own.add_argument("--history-length", type=positive, default=5, help="k: liked items before the objective")
    own.add_argument("--min-rating", type=float, default=4.0, help="from which rating on an item counts as liked")
    _add_encoding(command.add_argument_group("the pool (scenario and tagger default to what fits the catalogue)"))
    command.set_defaults(scenario=None, tagger=None)
    weights = command.add_argument_group("weights (default: the small model of the pack; give all three, or the last)")
    weights.add_argument("--checkpoint", type=Path, metavar="FILE", help="SD1.5")
    weights.add_argument("--clip-vision", type=Path, metavar="FILE", help="the CLIP Vision of the adapter")
    weights.add_argument("--ip-adapter", type=Path, metavar="FILE", help="a stock IP-Adapter, or one trained here")
    drawing = command.add_argument_group("drawing (steps, size and seed default to the workflow's)")
    for name, default, what in (
        ("--interest-weights", [0.0, 0.1, 0.2, 0.3, 0.5], "lambda2"),
        ("--text-weights", [0.0, 0.25, 0.5, 0.75], "lambda1"),
    ):
        drawing.add_argument(
            name, nargs="*", type=float, default=default, metavar="L", help=f"{what}, a picture each for everybody"
        )
    drawing.add_argument("--top-k", type=positive, default=5, help="K: texts and pictures retrieved")
    drawing.add_argument("--steps", type=positive, metavar="N", help="of the sampler")
    for side in ("width", "height"):
        drawing.add_argument(f"--{side}", type=multiple_of_8, metavar="N", help="pixels")
    drawing.add_argument("--seed", type=int, metavar="N", help="of the noise, which all pictures share")
    command.add_argument("--server", metavar="URL", help="a ComfyUI that runs already (default: start one)")
    command.add_argument("--out", type=Path, default=Path("demo"), help="where everything is put")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)
