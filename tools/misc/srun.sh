#!/usr/bin/env bash
# srun with MMDetection's environment variables; for slurm_*.sh:
#   srun.sh PARTITION JOB_NAME SCRIPT [arguments]
set -euo pipefail
partition=$1
job_name=$2
shift 2
read -r -a srun_args <<<"${SRUN_ARGS:-}"
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-8}
# a job smaller than a node asks for what it uses
if ((gpus < gpus_per_node)); then gpus_per_node=$gpus; fi
exec srun -p "$partition" \
  --job-name="$job_name" \
  --gres="gpu:$gpus_per_node" \
  --ntasks="$gpus" \
  --ntasks-per-node="$gpus_per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 \
  ${srun_args[@]+"${srun_args[@]}"} \
  "${PYTHON:-python}" -u "$@" --launcher slurm
