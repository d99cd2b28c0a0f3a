#!/bin/sh
# From real film posters and ratings to a personalised picture in ComfyUI, with every command a catalogue of your own
# would need: data check, pool build, data prepare, fit, export, generate, and the demo page that ComfyUI draws.
#
#   scripts/train_on_movielens.sh POSTERS OUT
#
# POSTERS holds items.jsonl (item_id, title, text, tags, image), the pictures, and interactions.csv in MovieLens' columns.
# Without CHECKPOINT, CLIP_VISION and IP_ADAPTER in the environment the weights are small random ones in the real
# formats, and STEPS are few: everything runs on a CPU, and the pictures are texture. Every command can be interrupted
# and run again.
set -eu

posters=$1
out=$2
steps=${STEPS:-4}
entries=${ENTRIES:-1500}
resolution=${RESOLUTION:-128}
batch_size=${BATCH_SIZE:-2}
python=${PYTHON:-python}
iamg() { "$python" -m iamg_train "$@"; }

mkdir -p "$out"
if [ -z "${CHECKPOINT:-}" ]; then
    "$python" -c "
import sys
from pathlib import Path
from iamg_train.demo_weights import make_demo_weights
make_demo_weights(Path(sys.argv[1]))" "$out/models"
    CHECKPOINT=$out/models/iamg_demo_sd15_seed0.safetensors
    CLIP_VISION=$out/models/iamg_demo_clip_vision_seed0.pt
    IP_ADAPTER=$out/models/iamg_demo_ip_adapter_seed0.safetensors
fi

iamg data check "$posters"

# Where ComfyUI and the demo at the end look for it; usually this is ComfyUI's own models/iamg_pools.
pools=demo/comfyui/models/iamg_pools
name=iamg_demo_$(basename "$(realpath "$posters")")
[ -f "$out/$pools/$name/pool.json" ] ||
    iamg pool build "$posters" --name "$name" --out "$out/$pools" --checkpoint "$CHECKPOINT" --clip-vision "$CLIP_VISION"

cat > "$out/run.toml" <<TOML
[data]
items = "$(realpath "$posters")"
pool = "$pools/$name"
max_entries = $entries

[model]
checkpoint = "$(realpath "$CHECKPOINT")"
clip_vision = "$(realpath "$CLIP_VISION")"
ip_adapter = "$(realpath "$IP_ADAPTER")"

[train]
steps = $steps
batch_size = $batch_size
resolution = $resolution

[watch]
log_every = 1
validate_samples = 8
sample_users = 2
sample_steps = 4

[run]
out = "run"
TOML

iamg data prepare --config "$out/run.toml"
iamg fit --config "$out/run.toml" --dry-run
if [ -d "$out/run/checkpoints" ]; then
    iamg fit --config "$out/run.toml" --resume latest
else
    iamg fit --config "$out/run.toml"
fi
iamg export "$out/run" --out "$out/weights.safetensors"

user=$("$python" -c "
import json, sys
samples = map(json.loads, open(sys.argv[1], encoding='utf-8'))
print(next(sample['user_id'] for sample in samples if sample['split'] == 'test'))" "$out/prepared/samples.jsonl")
iamg generate --config "$out/run.toml" --ip-adapter "$out/weights.safetensors" --user "$user" --out "$out/pictures" \
    --pictures 2 --steps 4 --width 256 --height 384

iamg demo --items "$posters" --interactions "$posters/interactions.csv" --checkpoint "$CHECKPOINT" \
    --clip-vision "$CLIP_VISION" --ip-adapter "$out/weights.safetensors" --out "$out/demo" \
    --steps 4 --width 256 --height 384
