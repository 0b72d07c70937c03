#!/usr/bin/env bash
# Test on a Slurm cluster:
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS (white-space
# separated options for srun) from the environment.
set -euo pipefail
exec "$(dirname "$0")/misc/srun.sh" "$0" test.py '' "$@"
