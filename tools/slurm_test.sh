#!/usr/bin/env bash
# Test on a Slurm cluster:
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS (white-space
# separated options for srun) from the environment.
set -euo pipefail
if (($# < 4)); then
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
partition=$1
job_name=$2
config=$3
checkpoint=$4
shift 4
exec "$(dirname "$0")/misc/srun.sh" "$partition" "$job_name" \
  "$(dirname "$0")/test.py" "$config" "$checkpoint" "$@"
