"""Milliseconds a step of SD1.5's 16 cross-attentions: unpatched, IPAdapter Plus, ours.

    python benchmarks/attention.py --comfyui .comfyui --ipadapter-plus ../ComfyUI_IPAdapter_plus
    python benchmarks/attention.py --comfyui .comfyui --comfy-args --use-pytorch-cross-attention

Every variant runs in turn in each round; ratios are taken within a round. What is timed is what replaces
`optimized_attention(q, k, v)` in a block: q, k and v are given, to_q and to_out are not part of it. IPAdapter
Plus is fetched by whoever runs this (github.com/cubiq/ComfyUI_IPAdapter_plus) and left out when not given.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADS, TEXT, WIDTH = 8, 77, 768
LEVELS = [(320, 1, 2), (640, 2, 2), (1280, 4, 2), (1280, 4, 3), (640, 2, 3), (320, 1, 3), (1280, 8, 1)]
"""(channels, downscaling, blocks) in IP-Adapter's order: input, output, middle."""


def load_package(name: str, folder: Path):
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--comfyui", type=Path, default=ROOT / ".comfyui", help="ComfyUI's folder")
    parser.add_argument("--ipadapter-plus", type=Path, help="ComfyUI_IPAdapter_plus' folder")
    parser.add_argument("--sizes", nargs="+", default=["32x1", "32x4", "64x1", "64x4"], help="latent side x batch")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--comfy-args", nargs=argparse.REMAINDER, default=[], help="flags for ComfyUI itself")
    return parser.parse_args(argv)


def main(argv=None) -> None:
    arguments = parse(argv)
    sys.path.insert(0, str(arguments.comfyui))
    sys.argv = [sys.argv[0], "--cpu", *arguments.comfy_args]
    import comfy.options

    comfy.options.enable_args_parsing()
    import torch
    from comfy.ldm.modules.attention import optimized_attention

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    load_package("iamg_pack", ROOT)
    from iamg_pack.nodes.cross_attention import KEY, Application, CrossAttentionPatch, Step

    blocks = [(channels, down) for channels, down, count in LEVELS for _ in range(count)]
    weights = [torch.randn(2, channels, WIDTH) * WIDTH**-0.5 for channels, _ in blocks]
    picture, interest = torch.randn(2, 4, WIDTH), torch.randn(1, TEXT, WIDTH)

    def pairs(tokens):
        return [(tokens @ to_k.T, tokens @ to_v.T) for to_k, to_v in weights]

    def ours(interest_pairs):
        application = Application(pairs(picture), interest_pairs, 1.0, 1.0, 0.2, None, None)
        return [CrossAttentionPatch(index, [application]) for index in range(len(blocks))]

    def unpatched(q, k, v, options):
        return optimized_attention(q, k, v, HEADS, transformer_options=options)

    variants = {"unpatched": [unpatched] * len(blocks)}
    if arguments.ipadapter_plus:
        variants["IPAdapter Plus"] = ipadapter_plus(arguments.ipadapter_plus, weights, picture)
    variants["ours, image"] = ours([])
    variants["ours, image and interest"] = ours(pairs(interest))

    print(
        f"{arguments.threads} threads, fp32, {optimized_attention.__name__}, {arguments.rounds} rounds, median (min-max)\n"
    )
    print("| latent, batch | " + " | ".join(f"{name}, ms" for name in variants) + " |")
    print("| --- |" + " ---: |" * len(variants))
    ratios = []
    for size in arguments.sizes:
        side, batch = map(int, size.split("x"))
        calls = []
        for index, (channels, down) in enumerate(blocks):
            height = side // down
            q = torch.randn(2 * batch, height * height, channels)
            k, v = (torch.randn(2 * batch, TEXT, channels) for _ in range(2))
            options = {
                "n_heads": HEADS,
                "attn_precision": None,
                "cond_or_uncond": [1, 0],
                "uuids": [None, None],
                "sigmas": torch.tensor([5.0] * batch),
                "activations_shape": [2 * batch, channels, height, height],
                "original_shape": [2 * batch, 4, side, side],
                "block": ("input", index),
                "transformer_index": index,
                KEY: Step(torch.tensor([5.0])),
            }
            calls.append((index, q, k, v, options))
        times = {name: [] for name in variants}
        with torch.inference_mode():
            for counted in range(-2, arguments.rounds):
                for name, patches in variants.items():
                    start = time.perf_counter()
                    for index, q, k, v, options in calls:
                        patches[index](q, k, v, options)
                    if counted >= 0:
                        times[name].append(1000 * (time.perf_counter() - start))
        print(f"| {side}×{side}, {batch} | " + " | ".join(f"{statistics.median(x):.1f}" for x in times.values()) + " |")
        within = {name: [a / b for a, b in zip(x, times["unpatched"], strict=True)] for name, x in times.items()}
        ratios.append(
            f"| {side}×{side}, {batch} | "
            + " | ".join(f"{statistics.median(x):.2f} ({min(x):.2f}-{max(x):.2f})" for x in within.values())
            + " |"
        )
    print("\n| latent, batch | " + " | ".join(f"{name}, ratio" for name in variants) + " |")
    print("| --- |" + " ---: |" * len(variants))
    print("\n".join(ratios))


def ipadapter_plus(folder: Path, weights, picture) -> list:
    """That pack's own patch objects with the same weights, as its node sets them."""
    load_package("ipadapter_plus", folder)
    from ipadapter_plus.CrossAttentionPatch import Attn2Replace, ipadapter_attention
    from ipadapter_plus.IPAdapterPlus import To_KV

    state = {}
    for index, (to_k, to_v) in enumerate(weights):
        state[f"{2 * index + 1}.to_k_ip.weight"], state[f"{2 * index + 1}.to_v_ip.weight"] = to_k, to_v

    class Holder:
        ip_layers = To_KV(state).requires_grad_(False)

        def get_multigpu_clone(self, device):
            return self

    return [
        Attn2Replace(
            ipadapter_attention,
            module_key=str(2 * index + 1),
            ipadapter=Holder(),
            weight=1.0,
            cond=picture[1:],
            uncond=picture[:1],
            weight_type="linear",
            mask=None,
            sigma_start=999999999.9,
            sigma_end=0.0,
        )
        for index in range(len(weights))
    ]


if __name__ == "__main__":
    main()
