#!/usr/bin/env bash
# Creates .venv with everything that mmcrosscl needs. `make` runs this script. After a failure, run it again.
# PYTHON  interpreter (3.11 or 3.12)
# CUDA    1: compile mmcv's ops for CUDA, 0: for the CPU; by default for CUDA if a GPU is present
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
log=$venv/setup.log
needed_gb=10
python=${PYTHON:-$(command -v python3.11 || echo python3)}

say() { printf '[setup] %s\n' "$*"; }
fail() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

# All missing requirements are reported at once, before anything is written.
missing=()
if ! version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
  missing+=("Python: $python does not run; apt-get install python3 python3-venv python3-dev, or choose another interpreter: make PYTHON=/path/to/python3.11")
elif [ "$version" != 3.11 ] && [ "$version" != 3.12 ]; then
  missing+=("Python 3.11 or 3.12: $python is $version; choose another interpreter: make PYTHON=/path/to/python3.11")
else
  "$python" -c 'import ensurepip, venv' 2>/dev/null \
    || missing+=("Python's venv module: apt-get install python3-venv")
  headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [ -f "$headers/Python.h" ] || missing+=("Python's C headers ($headers/Python.h): apt-get install python3-dev")
fi
# CXX may have several words, such as "ccache g++".
# shellcheck disable=SC2086
if ! echo 'int main() {}' | ${CXX:-g++} -std=c++17 -x c++ - -o /dev/null 2>/dev/null; then
  missing+=("C++17 compiler: ${CXX:-g++} does not compile; apt-get install g++, or set CXX")
fi
if [ ! -e "$venv/bin/pip" ]; then
  free_gb=$(($(df -Pk . | awk 'NR == 2 {print $4}') / 1048576))
  [ "$free_gb" -ge "$needed_gb" ] \
    || missing+=("disk: $needed_gb GB are needed in $PWD, but $free_gb GB are free")
fi
if [ ${#missing[@]} -gt 0 ]; then
  printf '[setup] missing: %s\n' "${missing[@]}" >&2
  exit 1
fi

ticker=
trap '[ -z "$ticker" ] || kill "$ticker" 2>/dev/null' EXIT
elapsed() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }
progress() { # the last line of the log; a bar if it is one of ninja's, such as [12/85]
  local line filled
  line=$(tail -n 1 "$log" 2>/dev/null | tr -cd '[:print:]')
  if [[ $line =~ ^\ *\[([0-9]+)/([0-9]+)\] ]]; then
    filled=$((30 * BASH_REMATCH[1] / BASH_REMATCH[2]))
    printf '%.*s%.*s %s/%s files' "$filled" '##############################' \
      $((30 - filled)) '------------------------------' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
  else
    printf '%s' "$line"
  fi
}
tick() { # on a terminal one line that changes every second, elsewhere a line every minute
  # `read` waits without a process that could outlive the script
  local start=$SECONDS interval=60 columns line
  [ ! -t 1 ] || interval=1
  columns=$(tput cols 2>/dev/null || echo 80)
  while kill -0 $$ 2>/dev/null; do
    read -rt $interval <> <(:) || true
    line="[setup]   $(elapsed $((SECONDS - start)))  $(progress)"
    if [ $interval = 1 ]; then
      printf '\r\033[K%s' "${line:0:$((columns - 1))}"
    else
      printf '%s\n' "${line:0:100}"
    fi
  done
}
step() { # a sentence, then a command whose output goes to the log
  say "$1"
  shift
  tick &
  ticker=$!
  local status=0
  "$@" >>"$log" 2>&1 || status=$?
  kill "$ticker" && wait "$ticker" 2>/dev/null || true
  ticker=
  [ ! -t 1 ] || printf '\r\033[K'
  if [ $status -ne 0 ]; then
    tail -n 25 "$log" >&2
    fail "this step failed; its complete output is in $log"
  fi
}
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

started=$SECONDS
[ -e "$venv/bin/pip" ] || { say "Creating $venv with Python $version"; "$python" -m venv "$venv"; }
step "Installing torch and build tools (1/4): the first time this downloads a few GB" \
  pip install -r requirements/build.txt -r requirements/torch.txt

# 1 if torch can use a GPU
gpu=$("$venv/bin/python" -c 'import torch; print(int(torch.cuda.is_available()))')
cuda=${CUDA:-$([ "$gpu" = 1 ] || [ -n "${TORCH_CUDA_ARCH_LIST:-}" ] && echo 1 || echo 0)}
if [ "$cuda" = 1 ]; then
  torch_cuda=$("$venv/bin/python" -c 'import torch; print(torch.version.cuda or "none")')
  nvcc_cuda=$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p' || true)
  [ "${nvcc_cuda%%.*}" = "${torch_cuda%%.*}" ] || fail "mmcv's CUDA ops need the nvcc of torch's CUDA \
$torch_cuda, found: ${nvcc_cuda:-no nvcc}; install that toolkit and add nvcc to the PATH, or train on the CPU: make setup CUDA=0"
  [ "$gpu" = 1 ] || [ -n "${TORCH_CUDA_ARCH_LIST:-}" ] || fail "no GPU is visible; set the architecture \
that mmcv's CUDA ops are compiled for: make setup CUDA=1 TORCH_CUDA_ARCH_LIST=9.0"
elif [ "$gpu" = 0 ] && command -v nvcc >/dev/null; then
  say "nvcc is installed but no GPU is visible: mmcv's ops are compiled for the CPU (for a GPU of another machine: make setup CUDA=1 TORCH_CUDA_ARCH_LIST=9.0)"
fi

ops() { # device that mmcv's ops are compiled for: cuda, cpu or none
  "$venv/bin/python" -c 'from mmcv.ops import get_compiling_cuda_version as v
print("cpu" if v() == "not available" else "cuda")' 2>/dev/null || echo none
}
wanted=$([ "$cuda" = 1 ] && echo cuda || echo cpu)
if [ "$(ops)" != "$wanted" ]; then
  if [ "$cuda" = 1 ]; then
    # pip's cache does not distinguish wheels by device
    uncached=(--no-cache-dir)
  else
    uncached=()
    # mmcv compiles for CUDA if it sees a GPU
    export CUDA_VISIBLE_DEVICES=
  fi
  MMCV_WITH_OPS=1 FORCE_CUDA=$cuda step "Compiling mmcv's ops for the ${wanted^^} (2/4): the first time this takes a quarter of an hour or more on two cores, later seconds from pip's cache" \
    pip install -v --no-build-isolation --force-reinstall --no-deps "${uncached[@]}" -r requirements/mmcv.txt
fi
step "Installing mmengine, mmdet, mmpretrain and their dependencies (3/4)" \
  pip install -r requirements/mmcv.txt -r requirements/mm.txt -r requirements/runtime.txt -r requirements/tests.txt
step "Installing mmcrosscl itself" pip install --no-build-isolation --no-deps -e .

# The packages require both builds of OpenCV, which share a folder. The headless one does not need libGL.
opencv=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("opencv-python-headless"))')
step "Replacing OpenCV by its headless build (4/4)" \
  pip install --force-reinstall --no-deps "opencv-python-headless==$opencv"
"$venv/bin/python" -c 'import mmcrosscl' || fail "mmcrosscl cannot be imported; see the error above"
[ "$(ops)" = "$wanted" ] || fail "mmcv's ops cannot be loaded; run: $venv/bin/pip cache remove onedl_mmcv; rm -r $venv; make setup"
touch "$venv/.ready"
say "Ready after $((SECONDS - started)) seconds."
