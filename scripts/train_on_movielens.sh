#!/bin/sh
# From real film posters and ratings to a personalised picture in ComfyUI, with every command a catalogue of your own
# would need: data check, pool build, data prepare, fit, export, generate, and the demo page that ComfyUI draws.
#
#   scripts/train_on_movielens.sh POSTERS OUT
#
# POSTERS holds items.jsonl (item_id, title, text, tags, image), the pictures, and interactions.csv in MovieLens' columns.
# Without CHECKPOINT, CLIP_VISION and IP_ADAPTER in the environment the weights are the small family that comes with the
# pack, and STEPS are few: everything runs on a CPU, but that family has never seen a film poster, and draws none.
# Every command can be interrupted and run again.
set -eu

posters=$1
out=$2
steps=${STEPS:-4}
entries=${ENTRIES:-1500}
batch_size=${BATCH_SIZE:-2}
python=${PYTHON:-python}
iamg() { "$python" -m iamg_train "$@"; }

demo=$out/demo
mkdir -p "$demo"
if [ -n "${CHECKPOINT:-}" ]; then
    kind=iamg_demo side=${SIDE:-512}
    checkpoint=$CHECKPOINT clip_vision=$CLIP_VISION ip_adapter=$IP_ADAPTER
else
    kind=iamg_mini side=${SIDE:-64}
    "$python" -c "
import sys
from pathlib import Path
from iamg_train.mini.files import unpack
print(*unpack(Path(sys.argv[1])), sep='\n')" "$demo/models" > "$out/mini.txt"
    { read -r checkpoint; read -r clip_vision; read -r ip_adapter; } < "$out/mini.txt"
fi

iamg data check "$posters"

# Where ComfyUI and the demo at the end look for it; usually this is ComfyUI's own models/iamg_pools.
pools=demo/comfyui/models/iamg_pools
name=${kind}_$(basename "$(realpath "$posters")")
[ -f "$out/$pools/$name/pool.json" ] ||
    iamg pool build "$posters" --name "$name" --out "$out/$pools" --checkpoint "$checkpoint" --clip-vision "$clip_vision"

cat > "$out/run.toml" <<TOML
[data]
items = "$(realpath "$posters")"
pool = "$pools/$name"
max_entries = $entries

[model]
checkpoint = "$(realpath "$checkpoint")"
clip_vision = "$(realpath "$clip_vision")"
ip_adapter = "$(realpath "$ip_adapter")"

[train]
steps = $steps
batch_size = $batch_size
resolution = $side

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
    --pictures 2 --steps 4 --width "$side" --height "$side"

set -- --items "$posters" --interactions "$posters/interactions.csv" --ip-adapter "$out/weights.safetensors"
[ -z "${CHECKPOINT:-}" ] || set -- "$@" --checkpoint "$checkpoint" --clip-vision "$clip_vision"
iamg demo "$@" --out "$demo" --steps 4 --width "$side" --height "$side"
