#!/usr/bin/env bash
# Test on several GPUs (or CPU processes):
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]
# Several machines: the same on each, with NNODES, NODE_RANK, MASTER_ADDR, PORT.
set -euo pipefail
if (($# < 3)); then
  sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3
exec "$(dirname "$0")/misc/torchrun.sh" "$gpus" \
  "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
