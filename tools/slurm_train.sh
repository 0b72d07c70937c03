#!/usr/bin/env bash
# Train on a Slurm cluster:
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS (white-space
# separated options for srun) from the environment.
set -euo pipefail
exec "$(dirname "$0")/misc/srun.sh" "$0" train.py --work-dir "$@"
