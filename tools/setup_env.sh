#!/usr/bin/env bash
# Makes .venv with all that mmcrosscl needs; `make` calls it. Safe to run again after a failure.
# PYTHON  interpreter to use (3.11 or 3.12)
# CUDA    1: build mmcv's CUDA ops, 0: do not; by default they are built where a GPU is present
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
log=$venv/setup.log
needed_gb=10
python=${PYTHON:-$(command -v python3.11 || echo python3)}

say() { printf '[setup] %s\n' "$*"; }
fail() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

# all that is missing is named at once, before anything is written
missing=()
if ! version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
  missing+=("Python: $python does not run; apt-get install python3 python3-venv python3-dev, or name one: make PYTHON=/path/to/python3.11")
elif [ "$version" != 3.11 ] && [ "$version" != 3.12 ]; then
  missing+=("Python 3.11 or 3.12: $python is $version; name another: make PYTHON=/path/to/python3.11")
else
  "$python" -c 'import ensurepip, venv' 2>/dev/null \
    || missing+=("Python's venv module: apt-get install python3-venv")
  headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [ -f "$headers/Python.h" ] || missing+=("Python's C headers ($headers/Python.h): apt-get install python3-dev")
fi
# CXX may be several words, as in "ccache g++"
# shellcheck disable=SC2086
if ! echo 'int main() {}' | ${CXX:-g++} -std=c++17 -x c++ - -o /dev/null 2>/dev/null; then
  missing+=("C++17 compiler: ${CXX:-g++} does not compile; apt-get install g++, or set CXX")
fi
if [ ! -e "$venv/bin/pip" ]; then
  free_gb=$(($(df -Pk . | awk 'NR == 2 {print $4}') / 1048576))
  [ "$free_gb" -ge "$needed_gb" ] \
    || missing+=("disk: $needed_gb GB are needed below $PWD, $free_gb GB are free")
fi
if [ ${#missing[@]} -gt 0 ]; then
  printf '[setup] missing: %s\n' "${missing[@]}" >&2
  exit 1
fi

ticker=
trap '[ -z "$ticker" ] || kill "$ticker" 2>/dev/null' EXIT
tick() { # a sign of life every minute; `read` waits without a process that could stay behind
  local minutes=0
  while kill -0 $$ 2>/dev/null; do
    read -rt 60 <> <(:) || true
    minutes=$((minutes + 1))
    say "  still at it after $minutes min"
  done
}
step() { # a sentence, then a command whose output goes to the log
  say "$1"
  shift
  tick &
  ticker=$!
  "$@" >>"$log" 2>&1 || { tail -n 25 "$log" >&2; fail "that failed; all of its output is in $log"; }
  kill "$ticker" && wait "$ticker" 2>/dev/null || true
  ticker=
}
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

started=$SECONDS
[ -e "$venv/bin/pip" ] || { say "Making $venv with Python $version"; "$python" -m venv "$venv"; }
step "Installing torch and build tools (1/4): a few GB to download the first time" \
  pip install -r requirements/build.txt -r requirements/torch.txt

# 1 where torch has CUDA and sees a GPU
gpu=$("$venv/bin/python" -c 'import torch; print(int(torch.cuda.is_available()))')
cuda=${CUDA:-$([ "$gpu" = 1 ] || [ -n "${TORCH_CUDA_ARCH_LIST:-}" ] && echo 1 || echo 0)}
if [ "$cuda" = 1 ]; then
  torch_cuda=$("$venv/bin/python" -c 'import torch; print(torch.version.cuda or "none")')
  nvcc_cuda=$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p' || true)
  [ "${nvcc_cuda%%.*}" = "${torch_cuda%%.*}" ] || fail "mmcv's CUDA ops need nvcc of torch's CUDA \
$torch_cuda, found: ${nvcc_cuda:-no nvcc}; install that toolkit and put nvcc on the PATH, or train on the CPU: make setup CUDA=0"
  [ "$gpu" = 1 ] || [ -n "${TORCH_CUDA_ARCH_LIST:-}" ] || fail "no GPU is visible, so say which to \
build mmcv's CUDA ops for: make setup CUDA=1 TORCH_CUDA_ARCH_LIST=9.0"
elif [ "$gpu" = 0 ] && command -v nvcc >/dev/null; then
  say "nvcc is here but no GPU is: mmcv's ops are built for the CPU (for a GPU elsewhere: make setup CUDA=1 TORCH_CUDA_ARCH_LIST=9.0)"
fi

ops() { # what mmcv's ops are built for: cuda, cpu or none
  "$venv/bin/python" -c 'from mmcv.ops import get_compiling_cuda_version as v
print("cpu" if v() == "not available" else "cuda")' 2>/dev/null || echo none
}
wanted=$([ "$cuda" = 1 ] && echo cuda || echo cpu)
if [ "$(ops)" != "$wanted" ]; then
  if [ "$cuda" = 1 ]; then
    # pip's cache does not know for which device a wheel was built
    uncached=(--no-cache-dir)
  else
    uncached=()
    # mmcv builds for a GPU wherever it sees one
    export CUDA_VISIBLE_DEVICES=
  fi
  MMCV_WITH_OPS=1 FORCE_CUDA=$cuda step "Compiling mmcv's ops for the ${wanted^^} (2/4): a quarter of an hour or more on two cores the first time, seconds from pip's cache after that" \
    pip install --no-build-isolation --force-reinstall --no-deps "${uncached[@]}" -r requirements/mmcv.txt
fi
step "Installing mmengine, mmdet, mmpretrain and what they need (3/4)" \
  pip install -r requirements/mmcv.txt -r requirements/mm.txt -r requirements/runtime.txt -r requirements/tests.txt
step "Installing mmcrosscl itself" pip install --no-build-isolation --no-deps -e .

# the packages ask for both builds of OpenCV, in one folder; the one without windows needs no libGL
opencv=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("opencv-python-headless"))')
step "Letting OpenCV's headless build win (4/4)" \
  pip install --force-reinstall --no-deps "opencv-python-headless==$opencv"
"$venv/bin/python" -c 'import mmcrosscl' || fail "mmcrosscl does not load, see above"
[ "$(ops)" = "$wanted" ] || fail "mmcv's ops do not load; run: $venv/bin/pip cache remove onedl_mmcv; rm -r $venv; make setup"
touch "$venv/.ready"
say "Ready after $((SECONDS - started)) seconds."
