#!/usr/bin/env bash
# Train on several GPUs (or CPU processes):
#   tools/dist_train.sh CONFIG GPUS [options of train.py]
# Several machines: the same on each, with NNODES, NODE_RANK, MASTER_ADDR, PORT.
set -euo pipefail
if (($# < 2)); then
  sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
config=$1
gpus=$2
shift 2
exec "$(dirname "$0")/misc/torchrun.sh" "$gpus" \
  "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
