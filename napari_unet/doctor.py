"""What is installed, which devices, memory and display there are, and what to do about each problem."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_unet.errors import DeviceError, UnetError
from napari_unet.infer.device import free_memory, half_precision, pick_device, system_lines
from napari_unet.model import Model, shipped
from napari_unet.model_file import code_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DISTRIBUTION = "napari-unet-live"
NAMESAKE = "napari-unet"  # another group's plugin, whose files lie in a folder of the same name
BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")
TELLING = ("torch", "numpy", "scikit-image", "napari")  # versions that are told even where all is well
# Segmenting a tile takes about one gigabyte, torch itself half of one.
LEAST_MEMORY = 2e9
LEAST_DISK = 1e9

# Tried in a program of its own: where a part of Qt is missing, Qt ends the program.
WINDOW = """
from qtpy.QtGui import QOpenGLContext
from qtpy.QtWidgets import QApplication
app = QApplication([])
raise SystemExit(0 if QOpenGLContext().create() else "there is no OpenGL")
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what, value : str
        Its name, and how it is.
    level : {"ok", "note", "problem"}
        A note: something is missing that not everyone needs. A problem: images cannot be segmented here.
    mend : str
        What to do about it; empty where nothing is to be done.
    """

    what: str
    value: str
    level: Literal["ok", "note", "problem"] = "ok"
    mend: str = ""

    @property
    def mark(self) -> str:
        """A sign for the terminal: blank, ``-`` for a note, ``!`` for a problem."""
        return {"ok": " ", "note": "-", "problem": "!"}[self.level]

    def to_dict(self) -> dict[str, str]:
        """Return the fields."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything; raises nothing, whatever is broken."""
    return [
        Finding("python", f"{platform.python_version()} ({sys.executable})"),
        Finding("system", platform.platform()),
        *_packages(),
        *_processor(),
        *_graphics(),
        *_memory(),
        *_display(),
        *_models(),
        *_folders(),
    ]


def report(findings: Sequence[Finding]) -> str:
    """Write the findings as lines of text, and what to do about them as the last one."""
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.mark} {finding.what:<{width}}  {finding.value}")
        if finding.mend:
            lines.append(f"  {'':<{width}}  -> {finding.mend}")
    levels = {finding.level for finding in findings}
    if "problem" in levels:
        lines.append("Mend what is marked with ! to segment images.")
    elif "note" in levels:
        lines.append("Images can be segmented here; what is marked with - can be mended too.")
    else:
        lines.append("Nothing is to be mended.")
    return "\n".join(lines)


def _packages() -> Iterator[Finding]:
    """Compare the versions of what is installed with what this distribution asks for, without importing it."""
    from packaging.requirements import Requirement

    if code_version() == "unknown":
        install = "pip install napari-unet-live, or pip install -e . in its folder"
        yield Finding(DISTRIBUTION, "not installed, run from a folder", "note", f"napari cannot see it: {install}.")
    else:
        yield Finding(DISTRIBUTION, code_version())
    if _version(NAMESAKE):
        mend = f"Two packages share one folder: pip uninstall {NAMESAKE}, then install {DISTRIBUTION} again."
        yield Finding(NAMESAKE, _version(NAMESAKE), "problem", mend)
    wanted = (
        [Requirement(text) for text in (metadata.requires(DISTRIBUTION) or ())] if code_version() != "unknown" else []
    )
    wanted = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    for name in TELLING:
        if not any(each.name == name for each in wanted):
            wanted.append(Requirement(name))
    for each in wanted:
        found = _version(each.name)
        if not found:
            yield Finding(each.name, "missing", "problem", f"pip install '{each}'")
        elif not each.specifier.contains(found, prereleases=True):
            yield Finding(each.name, f"{found}, too old or too new", "problem", f"pip install '{each}'")
        elif each.name in TELLING:
            yield Finding(each.name, found)
    bindings = [f"{name} {_version(name)}" for name in BINDINGS if _version(name)]
    if bindings:
        yield Finding("Qt", ", ".join(bindings))
    else:
        yield Finding("Qt", "missing", "note", "For the viewer: pip install 'napari[pyqt6]'.")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("processor", f"{_processor_name()}, {cores} of {os.cpu_count()} cores to use")
    try:
        import torch

        half = half_precision(torch.device("cpu")) is not None
        yield Finding("torch", f"{torch.get_num_threads()} threads, bfloat16 in hardware: {'yes' if half else 'no'}")
    except (ImportError, OSError) as error:  # a library that does not load is an OSError
        mend = "pip install --force-reinstall torch; on Windows also the Visual C++ runtime."
        yield Finding("torch", f"cannot be imported ({error})", "problem", mend)


def _processor_name() -> str:
    """Return the processor's model, in the system's own words."""
    if sys.platform == "linux":
        for line in system_lines("/proc/cpuinfo"):
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def _graphics() -> Iterator[Finding]:
    """Say which graphics devices torch sees, and whether there is one that it does not."""
    try:
        import torch
    except (ImportError, OSError):
        return

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(i)
            yield Finding(f"cuda:{i}", f"{torch.cuda.get_device_name(i)}, {_gb(free)} of {_gb(total)} free")
    elif Path("/proc/driver/nvidia/version").exists() or _output("nvidia-smi", "-L"):
        mend = "Install torch with CUDA, see https://pytorch.org/get-started; it is many times faster."
        yield Finding("cuda", f"there is an NVIDIA GPU, but torch {torch.__version__} does not see it", "note", mend)
    if torch.backends.mps.is_available():
        yield Finding("mps", "Apple GPU, shares the memory of the processor")
    try:
        yield Finding("device", f"auto is {pick_device().type}")
    except DeviceError as error:
        yield Finding("device", str(error), "problem")


def _memory() -> Iterator[Finding]:
    free = free_memory()
    if free is None:
        yield Finding("memory", "unknown")
    elif free < LEAST_MEMORY:
        yield Finding("memory", f"{_gb(free)} free", "note", "Close other programs: an image needs about 2 GB.")
    else:
        yield Finding("memory", f"{_gb(free)} free")


def _display() -> Iterator[Finding]:
    """Say whether napari could open a window; tries it only where there is a display and Qt."""
    named = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY") or ""
    if sys.platform == "linux" and not named:
        mend = "The viewer needs one: log in with a display (ssh -X). All other commands work without."
        yield Finding("display", "none", "note", mend)
        return
    if not any(map(_version, BINDINGS)):
        yield Finding("display", named or "yes")
        return
    try:
        done = subprocess.run([sys.executable, "-c", WINDOW], capture_output=True, text=True, timeout=60, check=False)
        lines = done.stderr.strip().splitlines() or ["Qt ended"]
        said = "" if done.returncode == 0 else lines[-1]
        if "could not connect to display" in done.stderr:
            mend = "Nothing answers there: set DISPLAY to the one you see, or unset it to work without."
            yield Finding("display", f"{named} cannot be reached", "note", mend)
            return
    except subprocess.TimeoutExpired:
        said = "Qt did not answer"
    if said:
        mend = "On Debian and Ubuntu: sudo apt-get install libegl1 libgl1 libxcb-cursor0 libxkbcommon-x11-0"
        yield Finding("display", ": ".join(filter(None, (named, said))), "note", mend)
    else:
        yield Finding("display", f"{named} with OpenGL".strip())


def _models() -> Iterator[Finding]:
    if not shipped():
        yield Finding("models", "none is shipped", "problem", f"Install {DISTRIBUTION} again, or give --model FILE.")
    for name in shipped():
        try:
            model = Model.load(name)
        except (UnetError, ImportError, OSError) as error:
            yield Finding(f"model {name}", str(error), "problem", f"Install {DISTRIBUTION} again.")
        else:
            size = f", objects of about {model.diameter:.0f} px" if model.diameter else ""
            yield Finding(f"model {name}", f"{model.version}, {model.task} in {model.ndim}-D{size}")


def _folders() -> Iterator[Finding]:
    """Say whether results and temporary files can be written."""
    import shutil

    for what, folder in (("this folder", Path.cwd()), ("temporary folder", Path(tempfile.gettempdir()))):
        try:
            with tempfile.TemporaryFile(dir=folder):
                free = shutil.disk_usage(folder).free
        except OSError as error:
            mend = "Work in a folder of your own." if what == "this folder" else "Set TMPDIR to a folder of your own."
            yield Finding(what, f"{folder} cannot be written to ({error.strerror})", "note", mend)
        else:
            low = free < LEAST_DISK
            mend = "Make room on this disk." if low else ""
            yield Finding(what, f"{folder}, {_gb(free)} free", "note" if low else "ok", mend)


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _output(*command: str) -> str:
    """Return what a program of the system says, "" where there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
