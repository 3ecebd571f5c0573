#!/usr/bin/env bash
# Creates an environment with everything that mmcrosscl needs. `make` runs this script. After a
# failure or an interruption, run it again.
#   STACK        onedl (default), or openmmlab for OpenMMLab's original packages
#   VENV         folder of the environment: .venv, or .venv-openmmlab
#   PYTHON       interpreter (onedl: 3.11 to 3.13, openmmlab: 3.11)
#   CUDA         1: mmcv's ops for CUDA, 0: for the CPU; by default for CUDA if a GPU is present
#   MMCV_INDEX   package index with compiled mmcv wheels; empty: compile
#   CONSTRAINTS  0: newest versions instead of those in requirements/constraints/
set -euo pipefail
cd "$(dirname "$0")/.."

stack=${STACK:-onedl}
case $stack in
  onedl)
    venv=${VENV:-.venv} supported='3.12 3.11 3.13' torch=requirements/torch.txt
    mm=requirements/onedl.txt mmcv=onedl-mmcv source=onedl-mmcv==2.3.6 wheels='onedl-mmcv>=2.3.6,<2.4'
    index=${MMCV_INDEX-https://mmwheels.onedl.ai}
    ;;
  openmmlab)
    venv=${VENV:-.venv-openmmlab} supported='3.11' torch=requirements/torch-openmmlab.txt
    mm=requirements/mminstall.txt mmcv=mmcv source=mmcv==2.1.0 wheels=mmcv==2.1.0
    index=${MMCV_INDEX-https://download.openmmlab.com/mmcv/dist}
    ;;
  *)
    echo "[setup] error: STACK is $stack; set it to onedl or openmmlab" >&2
    exit 1
    ;;
esac
log=$venv/setup.log
needed_gb=10

say() { printf '[setup] %s\n' "$*"; }
fail() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

python=${PYTHON:-}
for candidate in $supported; do
  # a shim of pyenv is on the PATH, but may not run
  [ -n "$python" ] || [ "$(version_of "python$candidate")" != "$candidate" ] || python=python$candidate
done
python=${python:-python3}

# All missing requirements are reported at once, before anything is written.
missing=()
if ! version=$(version_of "$python"); then
  missing+=("Python: $python does not run; apt-get install python3 python3-venv python3-dev, or choose another interpreter: make PYTHON=/path/to/python3.12")
elif [[ " $supported " != *" $version "* ]]; then
  missing+=("Python ${supported// / or }: $python is $version; choose another interpreter: make PYTHON=/path/to/python${supported%% *}")
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
attempt() { # a sentence, then a command whose output goes to the log; returns its status
  say "$1"
  shift
  tick &
  ticker=$!
  local status=0
  # an interrupted installation leaves the file, and the environment is then created again
  touch "$venv/.installing"
  "$@" >>"$log" 2>&1 || status=$?
  rm -f "$venv/.installing"
  kill "$ticker" && wait "$ticker" 2>/dev/null || true
  ticker=
  [ ! -t 1 ] || printf '\r\033[K'
  return $status
}
step() {
  attempt "$@" || { tail -n 25 "$log" >&2; fail "this step failed; its complete output is in $log"; }
}
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
# uv is several times as fast, but does not read the settings of pip. Like pip, it compiles to
# bytecode, without which the first import is slow and shows the SyntaxWarnings of dependencies.
install() {
  if [ -n "$uv" ] && "$uv" pip install --compile-bytecode --python "$venv/bin/python" "$@"; then return; fi
  pip install "$@"
}

started=$SECONDS
if [ -e "$venv/.installing" ]; then
  say "The last set-up was interrupted: $venv is created again"
  rm -rf "$venv"
fi
if [ -e "$venv/bin/pip" ] && [ "$(version_of "$venv/bin/python")" != "$version" ]; then
  fail "$venv has Python $(version_of "$venv/bin/python"), not $version; remove it: rm -r $venv"
fi
rm -f "$venv/.ready"
[ -e "$venv/bin/pip" ] || { say "Creating $venv with Python $version"; "$python" -m venv "$venv"; }

constraints=()
pinned=requirements/constraints/$stack-py$version.txt
[ "${CONSTRAINTS:-1}" = 0 ] || constraints=(-c "$pinned")
prepare() { # the pip that comes with Python may be too old for the constraints of torch
  pip install "${constraints[@]}" pip
  # an index in the settings of pip would not be asked by uv
  pip config list | grep -q '\.index-url=' || command -v uv || pip install "${constraints[@]}" uv || true
}
step "Installing the installer" prepare
uv=$(command -v uv || { [ ! -e "$venv/bin/uv" ] || echo "$venv/bin/uv"; })
! pip config list | grep -q '\.index-url=' || uv=
step "Installing torch and build tools (1/4): the first time this downloads a few GB" \
  install "${constraints[@]}" -r requirements/build.txt -r $torch

# 1 if torch can use a GPU
gpu=$("$venv/bin/python" -c 'import torch; print(int(torch.cuda.is_available()))')
cuda=${CUDA:-$([ "$gpu" = 1 ] || [ -n "${TORCH_CUDA_ARCH_LIST:-}" ] && echo 1 || echo 0)}
read -r torch_version torch_cuda <<<"$("$venv/bin/python" -c 'import torch
print(torch.__version__.partition("+")[0], torch.version.cuda or "none")')"
ops() { # device that mmcv's ops are compiled for: cuda, cpu or none
  # mmcv itself cannot be imported before its dependencies are installed
  "$venv/bin/python" -c 'import importlib.machinery, importlib.util, sysconfig, torch
folder = sysconfig.get_path("purelib") + "/mmcv"
spec = importlib.machinery.PathFinder.find_spec("_ext", [folder])
ext = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ext)
print("cpu" if ext.get_compiling_cuda_version() == "not available" else "cuda")' 2>/dev/null || echo none
}
wanted=$([ "$cuda" = 1 ] && echo cuda || echo cpu)

prebuilt() { # install a wheel from the index of the maintainers, for this torch and this device
  local device=cpu short=${torch_version%.*}
  [ "$cuda" = 0 ] || device=cu${torch_cuda//./}
  local where=(--index-url "$index/$device-torch${torch_version//./}/simple")
  [ $stack = onedl ] || where=(--no-index --find-links "$index/$device/torch$short/index.html")
  # without the settings of pip, which may name other sources
  (
    unset PIP_EXTRA_INDEX_URL PIP_FIND_LINKS
    export PIP_CONFIG_FILE=/dev/null
    pip install --no-deps --only-binary :all: --timeout 5 --retries 0 --force-reinstall \
      "${where[@]}" "$wheels"
  ) && [ "$(ops)" = "$wanted" ]
}
compile() { # compile mmcv, or take the wheel that an earlier set-up compiled
  local built
  # pip's own cache does not distinguish wheels by torch and device
  built=$(pip cache dir)/mmcrosscl/$source-torch$torch_version-py$version-$wanted-${TORCH_CUDA_ARCH_LIST:-native}
  if ! ls "$built"/*.whl >/dev/null 2>&1; then
    # an interrupted compilation leaves the environment intact
    rm -f "$venv/.installing"
    # mmcv compiles for CUDA if it sees a GPU
    if [ "$cuda" = 0 ]; then export CUDA_VISIBLE_DEVICES=; fi
    # without debug symbols, compiling takes half of the time
    MMCV_WITH_OPS=1 FORCE_CUDA=$cuda CFLAGS="-g0 ${CFLAGS:-}" pip wheel -v --no-cache-dir \
      --no-build-isolation --no-deps -w "$built.partial" "$source" \
      && rm -rf "$built" && mv "$built.partial" "$built" && touch "$venv/.installing" || return 1
  fi
  pip install --force-reinstall --no-deps "$built"/*.whl
}
if [ "$(ops)" != "$wanted" ]; then
  if [ -z "$index" ] || ! attempt "Asking $index for compiled ops of mmcv (2/4)" prebuilt; then
    if [ "$cuda" = 1 ]; then
      nvcc_cuda=$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p' || true)
      [ "${nvcc_cuda%%.*}" = "${torch_cuda%%.*}" ] || fail "mmcv's CUDA ops need the nvcc of torch's CUDA \
$torch_cuda, found: ${nvcc_cuda:-no nvcc}; install that toolkit and add nvcc to the PATH, or train on the CPU: make setup CUDA=0"
      [ "$gpu" = 1 ] || [ -n "${TORCH_CUDA_ARCH_LIST:-}" ] || fail "no GPU is visible; set the architecture \
that mmcv's CUDA ops are compiled for: make setup CUDA=1 TORCH_CUDA_ARCH_LIST=9.0"
    elif [ "$gpu" = 0 ] && command -v nvcc >/dev/null; then
      say "nvcc is installed but no GPU is visible: mmcv's ops are compiled for the CPU (for a GPU of another machine: make setup CUDA=1 TORCH_CUDA_ARCH_LIST=9.0)"
    fi
    step "Compiling mmcv's ops for the ${wanted^^} (2/4): up to ten minutes on two cores the first time" \
      compile
  fi
fi
step "Installing the other packages (3/4)" \
  install "${constraints[@]}" -r $mm -r requirements/runtime.txt -r requirements/tests.txt
# in the mode "compat", a folder named mmcrosscl in the current folder does not hide the package
step "Installing mmcrosscl itself" \
  pip install --no-build-isolation --no-deps --config-settings editable_mode=compat -e .
if [ $stack = openmmlab ]; then
  # mmengine 0.10.7 looks for the configs of an editable package in site-packages
  ln -sfn "$PWD/mmcrosscl" "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mmcrosscl"
fi

# The packages require OpenCV with windows, which needs libGL. The headless build replaces it in the same folder.
opencv=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("opencv-python"))')
step "Replacing OpenCV by its headless build (4/4)" \
  pip install --force-reinstall --no-deps "opencv-python-headless==$opencv"
"$venv/bin/python" -c 'import mmcrosscl' || fail "mmcrosscl cannot be imported; see the error above"
[ "$(ops)" = "$wanted" ] || fail "mmcv's ops cannot be loaded; run: rm -r $venv \"$(pip cache dir)/mmcrosscl\"; make setup"
touch "$venv/.ready"
"$venv/bin/mmcrosscl" env || true
say "Ready after $(elapsed $((SECONDS - started))) minutes."
