"""The house stands: imports run downwards, the core knows no screen, and nobody waits for torch."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "napari_unet"

GROUND = {"nets", "jobs", "errors", "whole"}
WINGS = {"exchange", "learn", "infer", "store"}  # they may use one another, in a circle never
FLOOR = {"model", "model_file"}
INSIDE = WINGS | GROUND | FLOOR | {"sample_data"}

# Each room, and the rooms that it may import. "" is napari_unet/__init__.py, the public face.
BELOW = {
    "errors": set(),
    "jobs": {"errors"},
    "whole": set(),
    "nets": {"jobs", "errors"},
    "sample_data": {"jobs", "errors"},
    "model_file": GROUND,
    "model": GROUND | {"model_file"},
    **{wing: (WINGS - {wing}) | GROUND | FLOOR | {"sample_data"} for wing in WINGS},
    "": INSIDE,
    "gui": INSIDE | {""},
    "terminal": INSIDE,  # what the commands of cli share; demo and doctor are two of them
    "demo": INSIDE,
    "doctor": INSIDE,
    "cli": INSIDE | {"", "terminal", "demo", "doctor"},
    "__main__": {"cli"},
}

# Model's plain methods hand over to the wings that do the work: only there may an import go up.
LONGEST = 410  # lines of a file; a longer one holds two things

UPWARDS = {f"Model.{method}": {"infer", "learn"} for method in ("predict", "segment", "fit", "evaluate")}

NO_SCREEN = {"napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "magicgui", "superqt", "pyqtgraph", "vispy"}
NOT_NEEDED = NO_SCREEN | {"zarr", "dask", "distributed", "yaozarrs"}


@dataclass(frozen=True)
class Import:
    """One import of a part of the package: who imports what, when, and inside which function."""

    source: str  # module names without "napari_unet."
    target: str
    when: Literal["at once", "deferred", "typing"]
    inside: str = ""

    def __str__(self) -> str:
        place = f"{self.when} {self.inside}".rstrip()
        return f"{self.source or '__init__'} -> {self.target or '__init__'} ({place})"


def room(module: str) -> str:
    return module.partition(".")[0]


def modules(house: Path) -> dict[str, Path]:
    """Return the modules of a package, by name within it: ``learn``, ``learn.train``; "" is its face."""
    found = {}
    for path in sorted(house.rglob("*.py")):
        parts = path.relative_to(house).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(house: Path) -> list[Import]:
    """Return all imports inside a package, those under TYPE_CHECKING and in function bodies too."""
    known = modules(house)

    def targets(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            return
        for name in names:
            first, _, rest = name.partition(".")
            if first == house.name:
                while rest and rest not in known and not (house / rest.replace(".", "/")).is_dir():
                    rest = rest.rpartition(".")[0]  # a name in a module, not a module
                yield rest

    def visit(node: ast.AST, source: str, when: str, inside: str) -> Iterator[Import]:
        for target in targets(node):
            yield Import(source, target, when, inside)  # type: ignore[arg-type]
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            when = "typing"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = f"{inside}.{node.name}".lstrip(".")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            when = "deferred"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, source, when, inside)

    return [
        found
        for name, path in known.items()
        for found in visit(ast.parse(path.read_text(encoding="utf-8")), name, "at once", "")
    ]


def allowed(found: Import) -> bool:
    source, target = room(found.source), room(found.target)
    if source == target and source:
        return True
    if source == "model" and target in WINGS:
        return found.when == "typing" or target in UPWARDS.get(found.inside, ())
    if source == "cli" and target == "gui":
        return found.when == "deferred"  # only `napari-unet view` opens the viewer
    return target in BELOW.get(source, ())


def circle(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return a circle among things that need others, or nothing."""
    graph: dict[str, set[str]] = {}
    for source, target in pairs:
        if source != target:
            graph.setdefault(source, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def circle_of_modules(found: Iterable[Import]) -> list[str]:
    """Return a circle of imports that run at once; a module runs the ``__init__`` of its folders first."""

    def runs(target: str) -> Iterator[str]:
        parts = target.split(".")
        return (".".join(parts[:n]) for n in range(1, len(parts) + 1))

    return circle(
        (each.source, part)
        for each in found
        if each.when == "at once"
        for part in runs(each.target)
        if not each.source.startswith(f"{part}.")  # its own folder's __init__ has begun already
    )


def circle_of_wings(found: Iterable[Import]) -> list[str]:
    pairs = ((room(each.source), room(each.target)) for each in found)
    return circle(pair for pair in pairs if WINGS.issuperset(pair))


def loads(names: Iterable[str], unwanted: set[str]) -> dict[str, list[str]]:
    """Import modules one after the other in a fresh Python; return which of them loads what is unwanted."""
    program = (
        "import importlib, json, sys\n"
        "names, unwanted = json.load(sys.stdin)\n"
        "seen, blame = set(), {}\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "    new = {m.partition('.')[0] for m in sys.modules} & set(unwanted) - seen\n"
        "    if new: blame[name] = sorted(new)\n"
        "    seen |= new\n"
        "print(json.dumps(blame))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([list(names), sorted(unwanted)]),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )
    assert done.returncode == 0, done.stderr
    blame: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return blame


def named(*rooms: str) -> list[str]:
    return [f"napari_unet.{name}".rstrip(".") for name in modules(HOUSE) if room(name) in rooms]


def test_each_module_is_in_a_room_of_the_plan() -> None:
    strangers = {room(name) for name in modules(HOUSE)} - BELOW.keys()
    assert not strangers, "give the new room its place in BELOW, and in docs/architecture.md"


def test_no_file_holds_two_things() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules(HOUSE).items()}
    assert {name: n for name, n in lines.items() if n > LONGEST} == {}, "split it into files with one purpose each"


def test_imports_run_downwards() -> None:
    assert [str(each) for each in imports(HOUSE) if not allowed(each)] == []


def test_no_imports_run_in_circles() -> None:
    assert circle_of_modules(imports(HOUSE)) == []
    assert circle_of_wings(imports(HOUSE)) == []


def test_the_core_imports_without_screen_zarr_and_dask() -> None:
    core = named(*(BELOW.keys() - {"gui", "exchange", "__main__"}))
    assert loads(core, NOT_NEEDED) == {}


def test_the_formats_import_without_screen() -> None:
    assert loads(named("exchange"), NO_SCREEN) == {}


def test_the_doors_open_without_torch() -> None:
    assert loads(named("", "model", "model_file", "cli"), {"torch"}) == {}


@pytest.mark.skipif(find_spec("napari") is None, reason="the dock needs napari")
def test_the_dock_opens_without_torch() -> None:
    assert loads(named("gui"), {"torch"}) == {}


# The guards themselves: what they must see, and what they must let pass.

MODEL = """
from typing import TYPE_CHECKING
from napari_unet.nets.config import UNetConfig
if TYPE_CHECKING:
    from napari_unet.learn.metrics import Scores
class Model:
    def segment(self):
        from napari_unet.infer.segment import segment
    def load(self):
        from napari_unet.infer import segment
"""


def build(house: Path, **files: str) -> Path:
    for name, text in {"nets.config": "", "learn.metrics": "", "infer.segment": "", **files}.items():
        path = house / "napari_unet" / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return house / "napari_unet"


def test_the_guard_knows_where_model_may_look_up(tmp_path: Path) -> None:
    found = imports(build(tmp_path, model=MODEL))
    assert [each.target for each in found] == ["nets.config", "learn.metrics"] + 2 * ["infer.segment"]
    wrong = [str(each) for each in found if not allowed(each)]
    assert wrong == ["model -> infer.segment (deferred Model.load)"]


@pytest.mark.parametrize(
    ("source", "line", "passes"),
    [
        ("learn.train", "from napari_unet.infer.segment import f", True),
        ("gui.dock", "import napari_unet.learn.metrics", True),
        ("gui.dock", "from napari_unet import learn", True),
        ("cli", "def view():\n    from napari_unet.gui import dock", True),
        ("cli", "from napari_unet.gui import dock", False),
        ("nets.unet", "from napari_unet.jobs import Job", True),
        ("nets.unet", "def f():\n    from napari_unet.model import Model", False),
        ("infer.segment", "from napari_unet import Model", False),
        ("infer.segment", "from napari_unet.gui.dock import Dock", False),
        ("jobs", "import napari_unet.nets.config", False),
        ("model", "from napari_unet.infer.segment import f", False),
        ("somewhere", "from napari_unet.jobs import Job", False),
    ],
)
def test_the_guard_tells_down_from_up(tmp_path: Path, source: str, line: str, passes: bool) -> None:
    found = imports(build(tmp_path, **{"gui.dock": "", "jobs": "", "model": "", source: line}))
    assert [allowed(each) for each in found] == [passes]


def test_the_guard_sees_circles(tmp_path: Path) -> None:
    found = imports(
        build(
            tmp_path,
            **{
                "learn.metrics": "from napari_unet.infer.segment import f",
                "infer.segment": "def f():\n    from napari_unet.learn.metrics import g",
                "nets.a": "from napari_unet.nets.b import x",
                "nets.b": "from napari_unet.nets.a import y",
            },
        )
    )
    assert set(circle_of_modules(found)) == {"nets.a", "nets.b"}
    assert set(circle_of_wings(found)) == {"learn", "infer"}


def test_the_guard_sees_a_circle_through_a_folder(tmp_path: Path) -> None:
    files = {"infer.__init__": "from napari_unet.model import M", "model": "import napari_unet.infer.segment"}
    assert set(circle_of_modules(imports(build(tmp_path, **files)))) == {"infer", "model"}


def test_the_guard_sees_what_an_import_loads() -> None:
    assert loads(["json", "wave", "colorsys"], {"wave"}) == {"wave": ["wave"]}


@pytest.mark.parametrize("program", sorted(map(str, [*ROOT.glob("bench/*.py"), *ROOT.glob("docs/*.py")])))
def test_programs_beside_the_package_import_what_it_has(program: str) -> None:
    found = [n for n in ast.walk(ast.parse(Path(program).read_text())) if isinstance(n, ast.ImportFrom) and not n.level]
    for node in (each for each in found if (each.module or "").startswith("napari_unet")):
        module = importlib.import_module(node.module or "")
        for alias in node.names:
            assert hasattr(module, alias.name) or find_spec(f"{node.module}.{alias.name}"), (node.module, alias.name)
