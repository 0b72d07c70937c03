#!/usr/bin/env bash
# srun with MMDetection's environment variables; for slurm_*.sh:
#   srun.sh CALLER SCRIPT OPTION PARTITION JOB_NAME CONFIG ARGUMENT [options]
# ARGUMENT follows OPTION, if that is not empty. With too few arguments, the
# first comment of CALLER is printed.
set -euo pipefail
if (($# < 7)); then
  sed -n '2,5s/^# \{0,1\}//p' "$1" >&2
  exit 2
fi
script=$(dirname "$1")/$2
option=$3
partition=$4
job_name=$5
config=$6
argument=$7
shift 7
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
  "${PYTHON:-python}" -u "$script" "$config" \
  ${option:+"$option"} "$argument" "$@" --launcher slurm
