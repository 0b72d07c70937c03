#!/usr/bin/env bash
# torchrun with MMDetection's environment variables; for dist_*.sh:
#   torchrun.sh PROCESSES SCRIPT [arguments]
set -euo pipefail
processes=$1
shift
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes "${NNODES:-1}" \
  --node_rank "${NODE_RANK:-0}" \
  --master_addr "${MASTER_ADDR:-127.0.0.1}" \
  --master_port "${PORT:-29500}" \
  --nproc_per_node "$processes" \
  "$@"
