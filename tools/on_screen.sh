#!/usr/bin/env bash
# Runs a command that opens windows: `on_screen.sh virtual CMD…` on a virtual screen, `on_screen.sh desktop CMD…` on the real one.
#
# First it tries whether Qt can make a window with OpenGL there. What is missing on Debian and Ubuntu is installed when this is
# root, and otherwise named. macOS and Windows have a screen and need nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

where=$1
shift
[ "$(uname)" = Linux ] || exec "$@"

packages=$(tr '\n' ' ' <tools/debian-packages.txt)
screen=()
if [ "$where" = virtual ]; then
    # xvfb-run gives napari what QT_QPA_PLATFORM=offscreen lacks, OpenGL; Qt must then not look for Wayland.
    screen=(env -u WAYLAND_DISPLAY QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1920x1080x24")
fi

works() {
    if [ "$where" = virtual ]; then
        for program in xvfb-run xauth; do
            command -v $program >/dev/null || { echo "There is no $program."; return 1; }
        done
    fi
    "${screen[@]}" .venv/bin/python -c '
from qtpy.QtGui import QOpenGLContext
from qtpy.QtWidgets import QApplication, QOpenGLWidget
app = QApplication([])
raise SystemExit(0 if QOpenGLContext().create() else "There is no OpenGL.")'
}

fail() { printf '%s\n' "$@" >&2; exit 1; }

if ! said=$(works 2>&1); then
    if [[ $said == *"could not connect to display"* ]]; then
        fail "The display '${DISPLAY:-}' cannot be reached. To work without one: unset DISPLAY."
    elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "$said" "Qt cannot open a window here. On Debian and Ubuntu this mends it:" \
            "  sudo apt-get update && sudo apt-get install -y $packages"
    fi
    echo "Qt cannot open a window yet: installing the packages in tools/debian-packages.txt."
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
    said=$(works 2>&1) || fail "$said" "Qt still cannot open a window; its words are above."
fi
exec "${screen[@]}" "$@"
