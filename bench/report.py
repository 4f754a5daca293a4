"""What every bench shares: the machine it ran on, and a table and a JSON file of what it measured."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("NAPARI_UNET_DATA", Path(__file__).parents[2] / "shared" / "data"))


def arguments(purpose: str) -> argparse.ArgumentParser:
    """Return a parser with the option that every bench has."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser


def machine() -> dict[str, Any]:
    """Return what figures depend on: processor, cores, versions."""
    import torch

    names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
    return {
        "processor": names[0].split(":")[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
    }


def report(rows: list[dict[str, Any]], path: Path | None) -> None:
    """Print the rows as a table and write them, with the machine, to a file if one is given."""
    columns = list(rows[0])
    cells = [[f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    widths = [max(len(c), *(len(line[i]) for line in cells)) for i, c in enumerate(columns)]
    for line in [columns, *cells]:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
    if path:
        path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2))
