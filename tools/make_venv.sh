#!/usr/bin/env bash
# Makes .venv and installs the project into it, with its tests and linters. `make` calls this.
#
# PYTHON       the Python that makes it, 3.11 or newer (default python3)
# TORCH_INDEX  an index to take torch from. Default: the processor wheels on a Linux machine without an NVIDIA GPU, which are a
#              tenth of the size; PyPI everywhere else, and wherever pip has been told of indexes of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
processor_wheels=https://download.pytorch.org/whl/cpu

fail() { printf '%s\n' "$@" >&2; exit 1; }
may_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

command -v "$python" >/dev/null || fail "There is no '$python' here. Install Python 3.11 or newer (Debian: sudo apt-get install python3 python3-venv), or name one: make PYTHON=python3.13 …"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' ||
    fail "'$python' is Python $version, and napari-unet needs 3.11 or newer. Name another one: make PYTHON=python3.13 …"

# Debian and Ubuntu ship Python without the part that makes virtual environments.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if may_apt; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "python$version-venv" >/dev/null
    else
        fail "'$python' cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install python$version-venv"
    fi
fi

# One that was broken off, or whose Python has gone, is made anew.
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

has_nvidia() { [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null; }
# grep reads to the end: pip would fail at a pipe that is closed before
knows_indexes() { pip config list | grep -E 'index-url|find-links|no-index' >/dev/null; }
if [ -z "${TORCH_INDEX:-}" ] && [ "$(uname)" = Linux ] && ! has_nvidia && ! knows_indexes; then
    TORCH_INDEX=$processor_wheels
fi

# torch first: a wheel with a suffix (+cpu, +cu128) wins over PyPI's of the same version, and stays in the second step.
echo "Installing torch, then napari and the rest, into .venv: this takes a few minutes the first time."
pip install --quiet ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
pip install --quiet --constraint constraints.txt --editable '.[all,cpu,cluster,test,lint]'
