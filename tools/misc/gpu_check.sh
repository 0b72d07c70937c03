#!/usr/bin/env bash
# What a GPU has to show: are the kernels right on it, how fast are they, does
# a detector train. One command, from a clone, with torch alone:
#
#   tools/misc/gpu_check.sh [--minutes N] [--wheels FOLDER] [--out FOLDER]
#                           [--device cpu] [PART ...]
#
# Parts, in this order (default: all):
#   tests      the kernels' tests on this GPU; needs pytest
#   layers     times of single convolutions; needs rich and matplotlib
#   backbones  times of the COCO rows' backbones; needs MMDetection
#   training   the demo, and 100 iterations of the COCO row with and without
#              AMP; needs mmcv's CUDA operators, too
#
# --minutes For how long the machine is there: no step runs beyond that, and
#           what was not started is said. Default: no limit but the steps'.
# --wheels  Where MMDetection is not installed: a folder with the wheels of
#           onedl-mmengine, onedl-mmdetection and what they need, and with
#           onedl-mmcv as a wheel or as source. The source is compiled: without
#           CUDA for the backbones (a minute on 16 cores), with CUDA for the
#           training (longer).
# --out     Default: work_dirs/gpu_check. summary.txt, and for each step its
#           log and its table (csv, md, png), written as it runs: what is
#           stopped keeps what it has.
# --device  cpu: the same commands with tiny sizes, where there is no GPU. The
#           kernels run in Triton's interpreter; no CUDA graphs, torch.compile
#           or AMP, and the demo is left to `make demo`.
#
# Each step has its own time limit and shows its output while it runs; those of
# layers and backbones take less than 6 minutes together on a GPU, without the
# installation. On a machine where Triton has not compiled the kernels yet, this
# takes most of the time of the first steps (it keeps them in ~/.triton). PYTHON
# names the interpreter (default: python3).
set -u
cd "$(dirname "$0")/../.." || exit
python=${PYTHON:-python3}
device=cuda wheels='' out=work_dirs/gpu_check minutes='' parts=()

usage() { sed -n '2,/^set -u/{/^set -u/d; s/^# \{0,1\}//; p}' "$0"; }

wrong() {
  echo "gpu_check: $1 (--help tells more)" >&2
  exit 2
}

while (($#)); do
  case $1 in
    --device | --wheels | --out | --minutes)
      (($# > 1)) || wrong "$1 needs a value"
      declare "${1#--}=$2"
      shift
      ;;
    tests | layers | backbones | training) parts+=("$1") ;;
    -h | --help) usage; exit ;;
    *) wrong "$1: parts are tests, layers, backbones, training" ;;
  esac
  shift
done
((${#parts[@]})) || parts=(tests layers backbones training)
[[ $device == cuda || $device == cpu ]] || wrong "--device $device: cuda or cpu"
[[ -z $minutes || $minutes =~ ^[1-9][0-9]*$ ]] ||
  wrong "--minutes $minutes: a number of minutes"
[[ -z $wheels || -d $wheels ]] || wrong "--wheels $wheels: no such folder"
if [[ $device == cuda ]] && ! "$python" -c \
  'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  wrong "$python finds no torch, or torch no GPU; --device cpu tries without"
fi
mkdir -p "$out" || exit
out=$(cd "$out" && pwd)
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
failed=0 share=0
factor=1  # of the time limits
[[ $device == cuda ]] || factor=4

say() { echo "$*" | tee -a "$out/summary.txt"; }

skip() {
  say "$1: NOT RUN: $2"
  failed=1
}

# needs MODULE...: of a part; says what is missing
needs() {
  local part=$1 module
  for module in "${@:2}"; do
    "$python" -c "import $module" 2>/dev/null && continue
    skip "$part" "no $module: $python -m pip install ${*:2}"
    return 1
  done
}

# step NAME SECONDS COMMAND...: under a time limit, shown and into a log
step() {
  local name=$1 limit=$((factor * $2)) begin=$SECONDS code left
  shift 2
  if [[ -n $minutes ]]; then
    left=$((60 * minutes - SECONDS))
    ((left >= 15)) || { skip "$name" "no time left"; return 1; }
    ((limit < left)) || limit=$left
  fi
  echo "== $name, for at most $limit s"
  timeout -k 10 "$limit" "$@" 2>&1 | tee "$out/$name.log"
  code=${PIPESTATUS[0]}
  if ((code == 0)); then
    say "$name: done in $((SECONDS - begin)) s"
  elif ((code == 124 || code == 137)); then
    say "$name: STOPPED after $limit s; what it had measured is kept"
  else
    say "$name: FAILED with code $code after $((SECONDS - begin)) s:" \
      "$(grep -v '^[[:space:]]*$' "$out/$name.log" | tail -n 1)"
  fi
  ((code == 0)) || failed=1
  return "$code"
}

# bench NAME SECONDS SYSTEM... OPTION...: times side by side. A step gets what
# those before it have left, too.
bench() {
  local name=$1 begin=$SECONDS
  share=$((share + $2))
  shift 2
  step "$name" "$share" "$python" tools/analysis_tools/benchmark.py \
    --device "$device" --out "$out/$name" "${size[@]}" "$@"
  share=$((share - (SECONDS - begin) / factor))
}

# keeps the exit code, which tells a crash from an error
try_stack() {
  "$python" -c "$1" >"$out/stack.log" 2>&1
  stack_code=$?
  return "$stack_code"
}

has_stack() { try_stack 'import mmdet.models'; }

has_cuda_operators() {
  [[ $device == cpu ]] && has_stack && return
  try_stack 'from mmdet_scconv.stack import check_cuda_operators
check_cuda_operators()'
}

# install cpu|cuda SECONDS: MMDetection from the wheels, before what is there
install() {
  [[ -n $wheels ]] || return 1
  step "install-$1" "$2" "$python" tools/misc/offline_stack.py "$wheels" \
    "$out/site-$1" --operators "$1" || return
  export PYTHONPATH=$out/site-$1:$PYTHONPATH
}

why_no_stack() {
  local reason
  reason=$(tail -n 1 "$out/stack.log")
  ((stack_code < 128)) ||
    reason="Python was ended by signal $((stack_code - 128)) in mmcv or MMDetection"
  echo "$reason (see stack.log${wheels:+, install-*.log}; --wheels FOLDER" \
    "installs it)"
}

if [[ $device == cuda ]]; then
  size=(--batch 1 2 8 --rounds 9)
  largest=8
  modes=(eager cuda-graphs)
  dtypes=(bf16 fp16 tf32)  # the most important one first
else
  size=(--batch 1 --shape 64 96 --rounds 1)
  largest=1
  modes=(eager)
  dtypes=(bf16 fp32)
fi
rows=configs/scconv/faster-rcnn
dense=${rows}_r50_fpn_1x_coco.py
ours=${rows}_scconv-r50_fpn_1x_coco.py

run_tests() {
  needs tests pytest || return
  local options=(-q -p no:cacheprovider --noconftest
    tests/test_layers/test_triton.py)
  # most of the time is Triton's compilation, on the CPU
  local processes
  processes=$(nproc --all)
  ((processes < 16)) || processes=16
  "$python" -c 'import xdist' 2>/dev/null && options+=(-n "$processes")
  if [[ $device == cuda ]]; then
    step tests 400 "$python" -m pytest "${options[@]}"
  else
    step tests 150 env TRITON_INTERPRET=1 OMP_NUM_THREADS=1 "$python" \
      -m pytest "${options[@]}" -k 'launches or cuda_graph'
  fi
}

run_layers() {
  needs layers rich matplotlib || return
  bench layers-inference 60 dense scconv scconv:textbook scconv:deploy \
    --part layer --execution "${modes[@]}" --dtype "${dtypes[@]}"
  bench layers-training 65 dense scconv scconv:textbook --part layer \
    --task training --regime norm-eval --execution "${modes[@]}" \
    --dtype "${dtypes[@]}"
  # as the networks that `Swapped` is for train
  bench layers-batch-statistics 30 dense scconv scconv:textbook --part layer \
    --task training --regime batch-statistics --execution "${modes[@]}" \
    --dtype "${dtypes[0]}" --batch "$largest"
}

run_backbones() {
  has_stack || install cpu 150
  if ! has_stack; then
    skip backbones "MMDetection cannot be imported: $(why_no_stack)"
    return
  fi
  bench backbones-inference 70 "$dense" "$ours" "$ours:textbook" \
    "$ours:deploy" --execution "${modes[@]}" --dtype "${dtypes[@]}"
  bench backbones-training 70 "$dense" "$ours" "$ours:textbook" \
    --task training --execution "${modes[@]}" --dtype "${dtypes[@]}"
  [[ $device == cpu ]] || bench backbones-compile 50 "$dense" "$ours" \
    --execution compile --task inference training --dtype bf16 --batch 2
}

run_training() {
  has_cuda_operators || install cuda 420
  if ! has_cuda_operators; then
    skip training "no CUDA operators of mmcv: $(why_no_stack)"
    return
  fi
  local config=$out/short_coco/config.py options=()
  [[ $device == cuda ]] || options=(--iterations 2 --size 64 96)
  step short-coco 120 "$python" tools/misc/short_coco.py "$ours" \
    "$out/short_coco" "${options[@]}" || return
  step coco 150 "$python" tools/train.py "$config" --work-dir "$out/coco"
  last_iteration coco
  if [[ $device == cuda ]]; then
    step coco-amp 150 "$python" tools/train.py "$config" --amp \
      --work-dir "$out/coco-amp"
    last_iteration coco-amp
    step demo 300 "$python" tools/demo.py --work-dir "$out/demo"
  else
    say 'coco-amp, demo: not on a CPU'
  fi
}

# time and memory of a training, from its last log line
last_iteration() {
  say "  $(grep -h 'Epoch(train)' "$out/$1.log" | tail -n 1 |
    sed 's/.*Epoch(train)/iteration/')"
}

: >"$out/summary.txt"
say "gpu_check on $device: ${parts[*]} ($(date -u +%FT%TZ), $(
  git rev-parse --short HEAD 2>/dev/null || echo 'no commit'))"
for part in "${parts[@]}"; do
  "run_$part"
done
echo
cat "$out/summary.txt"
echo "Tables and logs: $out"
exit "$failed"
