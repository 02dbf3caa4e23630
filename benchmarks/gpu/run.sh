#!/usr/bin/env bash
# The prepared run on a machine with a GPU and without a network, in the packed checkout's root: docs/gpu-todo.md.
#
#   bash .gpu/run.sh a [SECONDS]    # the tests on CUDA, a step, a frame, every op
#   bash .gpu/run.sh b [SECONDS]    # time to quality, ncu, sanitizers, the semantic loss and the paper's step
#
# What matters most comes first. Each part has a limit of its own and writes into $OUT as it goes, four files a call: one that
# fails or is cut off does not stop the rest, and loses nothing that it had found. Without a GPU everything is rehearsed at a
# tiny size, and what cannot be is left out.
set -u
mode=${1:?a or b}
cd "$(dirname "$0")/../.."
until=$((SECONDS + ${2:-$([ "$mode" = a ] && echo 545 || echo 330)}))
patience=1 # factor of all limits
site=/tmp/dietnerf-site
export OUT=${OUT:-/tmp/dietnerf-out} DIETNERF_DATA=$PWD/.gpu/data PYTHONUNBUFFERED=1 PYTHONPYCACHEPREFIX=/tmp/dietnerf-pyc
export PYTHONPATH=$site:$PWD:$PWD/benchmarks HF_HUB_OFFLINE=1
export TORCH_CUDA_ARCH_LIST=9.0 # what is packed, and what is built where that does not load
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive # threads that spin hold up the workers beside them
mkdir -p "$OUT"
log=$OUT/$mode.log
: > "$log"

part() { # seconds at most, lines to show, command...
  local limit=$(($1 * patience)) shown=$2 started=$SECONDS from rc
  shift 2
  ((limit > until - SECONDS)) && limit=$((until - SECONDS))
  if ((limit < 5)); then echo "== no time left for $*" | tee -a "$log"; return; fi
  echo "== $*" >> "$log"
  from=$(($(wc -l < "$log") + 1))
  timeout -k 5 "$limit" "$@" >> "$log" 2>&1
  rc=$?
  tail -n +"$from" "$log" | tail -n "$shown" | cut -c1-160
  echo "== rc $rc after $((SECONDS - started)) s, $((until - SECONDS)) s left: $*" | cut -c1-200 | tee -a "$log"
}

needs() { # a program that may be missing
  command -v "$1" > /dev/null || { echo "== no $1 here" | tee -a "$log"; false; }
}

set_up() {
  [ -d "$site" ] || python3 -m pip install -q --no-index --no-deps --no-compile --target "$site" .gpu/wheels/*.whl
  nvidia-smi 2>&1 | head -15
  python3 -V
  python3 -m pip list 2> /dev/null | grep -iE '^(torch|triton|numpy|pytorch-lightning|torchmetrics|timm|pytest) '
  local kernels
  kernels=$(python3 -m dietnerf.ops)
  echo "$kernels"
  # Libraries of another system may not load: then they are built here, in a minute.
  [[ $kernels == *'CUDA kernels: yes'* ]] || python3 setup.py -q build_ext --inplace
}

nerfacc() { # its own setup compiles one file after the other
  mkdir -p /tmp/nerfacc
  tar xzf .gpu/nerfacc-*.tar.gz -C /tmp/nerfacc --strip-components 1
  cd /tmp/nerfacc/nerfacc/cuda/csrc || return
  local include lib
  include=$(python3 -c "
import glob, sysconfig
from pathlib import Path
import torch
from torch.utils.cpp_extension import include_paths
nvidia = glob.glob(f'{Path(torch.__file__).parents[1]}/nvidia/*/include')
print(*(f'-I{folder}' for folder in [*include_paths(), sysconfig.get_paths()['include'], *nvidia]))")
  lib=$(python3 -c "import torch; print(torch.__path__[0] + '/lib')")
  for file in *.cu nerfacc.cpp; do # nvcc finds headers of its own that wheels leave out
    nvcc -std=c++17 -O3 --expt-relaxed-constexpr -gencode=arch=compute_90,code=sm_90 -Xcompiler -fPIC \
      -DTORCH_EXTENSION_NAME=csrc -Iinclude $include -c "$file" -o "${file%.*}.o" &
  done
  wait
  nvcc -shared -cudart shared -o ../../csrc.so ./*.o -L"$lib" -lc10 -ltorch -ltorch_cpu -ltorch_cuda -lc10_cuda -ltorch_python &&
    cp -r /tmp/nerfacc/nerfacc "$site"/
}

sanitizer() { # tool, seconds, arguments of every_kernel.py; of other kernels than ours it would take most of the time
  local only
  only=$(compute-sanitizer --help 2>&1 | grep -oE -- '--(kernel-regex|kernel-name|filter)' | head -1)
  part "$2" 12 compute-sanitizer ${only:+"$only" kns=dietnerf} --error-exitcode 9 --tool "$1" \
    python3 benchmarks/gpu/every_kernel.py "${@:3}"
}

export site
export -f set_up
part 240 25 bash -c set_up
small=() n_samples=2000
if ! python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  small=(--device cpu --small) n_samples=200
  patience=5 until=$((SECONDS + 1800)) # on a busy machine; only a GPU's time is short
fi

if ((${#small[@]})); then # at least that the packed scene is read, and the preset's options go together
  part 90 2 python3 train.py fit --config fast --config dense --config gpu --run /tmp/dietnerf-run --trainer.precision 32-true \
    --data.reader.init_args.downscale 32 --data.samples_per_step 4096 --trainer.max_steps 2 --trainer.val_check_interval 2 \
    --trainer.enable_progress_bar false
  rm -rf /tmp/dietnerf-run
fi

case $mode in
  a)
    building=
    if ((${#small[@]} == 0)) && needs nvcc; then (nerfacc > /tmp/nerfacc.log 2>&1) & building=$!; fi
    # A worker a file, each a process: an assert on the device ends one file, not all.
    part 150 15 python3 -m pytest -v -n $(($(nproc) < 6 ? $(nproc) : 6)) --dist loadfile -p no:cacheprovider --junitxml "$OUT/ops.xml" -k cuda \
      tests/ops tests/sampling tests/test_renderer.py tests/training/test_datamodule.py
    part 90 8 python3 -m pytest -v -p no:cacheprovider -k cuda tests/training/test_cuda_graphs.py tests/training/test_graphed_capacity.py
    part 75 12 python3 benchmarks/gpu.py "${small[@]}" --parts step frame --out "$OUT/steps.json"
    part 60 60 python3 benchmarks/gpu/step_profile.py "${small[@]}"
    [ -n "$building" ] && timeout 60 tail --pid="$building" -f /dev/null && tail -5 /tmp/nerfacc.log >> "$log"
    part 160 45 python3 benchmarks/gpu.py "${small[@]}" --rounds 12 --parts ceilings ops --out "$OUT/ops.json"
    ;;
  b)
    part 130 6 python3 benchmarks/gpu.py "${small[@]}" --parts quality --out "$OUT/quality.json"
    part 60 20 python3 benchmarks/gpu/every_kernel.py $n_samples "${small[@]}"
    if needs ncu; then
      part 60 3 ncu --clock-control none --kernel-name 'regex:run_(each|tiles)' --section SpeedOfLight --section Occupancy \
        --section WarpStateStats --csv --log-file "$OUT/ncu.csv" python3 benchmarks/gpu/every_kernel.py 262144
    fi
    if needs compute-sanitizer; then
      PYTORCH_NO_CUDA_MEMORY_CACHING=1 sanitizer memcheck 60 $n_samples # so that it sees the ends of tensors
      for tool in racecheck synccheck initcheck; do sanitizer $tool 45 $n_samples --tiles; done
    fi
    part 90 6 python3 benchmarks/gpu.py "${small[@]}" --parts semantic paper --out "$OUT/semantic.json"
    ;;
esac
