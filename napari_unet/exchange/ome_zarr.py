"""OME-Zarr label images, written whole or block by block."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.exchange.labels import SOFTWARE, TILE
from napari_unet.whole import replace_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

    from napari_unet.exchange.labels import Labels

SMALLEST = 2048  # side in pixels of the smallest level of a large one: about a screen
HELD = 2**23  # pixels of the smallest level, for napari holds all of it in memory; of a stack with many slices
TINY = 8  # pixels: no plane is made smaller than that


def write_zarr(path: Path, labels: Labels, axes: str, scale: Mapping[str, float], origin: Mapping[str, str]) -> None:
    """Write labels as an OME-Zarr label image of one level, whole or not at all; an older one is replaced.

    Parameters
    ----------
    path : Path
        See :class:`LabelImage`.
    labels : uint8 or uint32 array
        0 = background.
    axes : str
        A letter of ``TZYX`` for each axis.
    scale : mapping from axis letter to float
        Pixel size in µm, for those of Z, Y and X where it is known.
    origin : mapping from str to str
        Which model made them, kept beside the labels.
    """
    path.parent.mkdir(exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    chunks = [TILE if i >= labels.ndim - 2 else 1 for i in range(labels.ndim)]
    image = LabelImage(temporary, path, labels.shape, labels.dtype, axes, scale, chunks)
    try:
        image.create()
        image.write([slice(0, n) for n in labels.shape], labels)
        image.put_in_place(origin)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@dataclass(frozen=True)
class LabelImage:
    """An OME-Zarr label image that is written block by block, in a folder of its own until it is whole.

    Attributes
    ----------
    folder : Path
        Where it lies meanwhile, on the disk of `path`.
    path : Path
        Where it is to lie. In the ``labels`` group of an OME-Zarr image it is entered into the list there, and has
        that image's version; anywhere else it stands alone, as OME-Zarr 0.5.
    shape : sequence of int
        Of the labels.
    dtype : numpy.dtype
        uint8 or uint32.
    axes : str
        A letter of ``TZYX`` for each axis.
    scale : mapping from axis letter to float
        Pixel size in µm, for those of Z, Y and X where it is known.
    chunks : sequence of int
        Lengths of the pieces on disk.
    blocks : sequence of int, optional
        Lengths of the blocks that are written, multiples of the chunks: each is one file, and there are smaller levels
        for the viewer. Without it there is one level: napari can paint on such a layer and not on a pyramid.
    """

    folder: Path
    path: Path
    shape: Sequence[int]
    dtype: DTypeLike
    axes: str
    scale: Mapping[str, float]
    chunks: Sequence[int]
    blocks: Sequence[int] | None = None

    @property
    def _inside(self) -> bool:
        return self.path.parent.name == "labels" and _is_group(self.path.parent.parent)

    @property
    def _version2(self) -> bool:
        return self._inside and not (self.path.parent.parent / "zarr.json").exists()

    @property
    def levels(self) -> int:
        """How many there are."""
        return 1 if self.blocks is None else len(shapes_of_levels(self.shape))

    def array(self, level: int = 0, mode: str = "r") -> Any:
        """Return a level on disk; 0 is the full size."""
        import zarr

        return zarr.open_array(self.folder / str(level), mode=mode)

    def create(self) -> None:
        """Make an empty one; one that was made before stays, with all that was written."""
        import zarr

        if (self.folder / ".made").exists():
            return
        if self._inside:
            zarr.open_group(self.path.parent, mode="a", zarr_format=2 if self._version2 else 3)
        group = zarr.open_group(self.folder, mode="w", zarr_format=2 if self._version2 else 3)
        for level in range(self.levels):
            shape = _halved(self.shape, level)
            chunks = [min(c, n) for c, n in zip(self.chunks, shape, strict=True)]
            shards = None
            if self.blocks is not None and not self._version2:
                whole = [b >> (level if i >= len(shape) - 2 else 0) for i, b in enumerate(self.blocks)]
                fitting = zip(whole, chunks, shape, strict=True)
                shards = [max(min(-(-w // c), -(-n // c)), 1) * c for w, c, n in fitting]
            group.create_array(
                str(level),
                shape=shape,
                dtype=np.dtype(self.dtype),
                chunks=tuple(chunks),
                shards=tuple(shards) if shards else None,
                chunk_key_encoding={"name": "v2" if self._version2 else "default", "separator": "/"},
                dimension_names=None if self._version2 else list(self.axes.lower()),
            )
        (self.folder / ".made").touch()

    def write(self, region: Sequence[slice], labels: NDArray[Any]) -> None:
        """Write a block into the levels that it fills by itself; different ones may be written at once."""
        for level in range(self._direct):
            steps = [1] * max(labels.ndim - 2, 0) + [2**level] * min(labels.ndim, 2)
            part = labels[tuple(slice(None, None, step) for step in steps)]
            starts = [r.start >> level if i >= len(self.shape) - 2 else r.start for i, r in enumerate(region)]
            where = tuple(slice(start, start + n) for start, n in zip(starts, part.shape, strict=True))
            self.array(level, "r+")[where] = part

    @property
    def _direct(self) -> int:
        """How many levels a block writes alone: those in which no piece on disk is shared with another block."""
        levels, count = self.levels, 1
        while count < levels and all(
            n <= b or b % (c << count) == 0
            for n, b, c in zip(self.shape[-2:], (self.blocks or self.shape)[-2:], self.chunks[-2:], strict=True)
        ):
            count += 1
        return count

    def put_in_place(self, origin: Mapping[str, Any]) -> None:
        """Finish the levels, say what it is, and replace what was at `path`.

        Parameters
        ----------
        origin : mapping from str to str or int
            Which model made it, and the largest number in it, kept beside the labels.
        """
        import zarr

        for level in range(self._direct, self.levels):
            finer, coarser = self.array(level - 1), self.array(level, "r+")
            pieces = [range(0, n, c) for n, c in zip(coarser.shape, coarser.shards or coarser.chunks, strict=True)]
            for start in product(*pieces):
                to = [slice(a, min(a + p.step, n)) for a, p, n in zip(start, pieces, coarser.shape, strict=True)]
                plane = (slice(2 * t.start, 2 * t.stop, 2) for t in to[-2:])
                coarser[tuple(to)] = finer[(*to[:-2], *plane)]
        group = zarr.open_group(self.folder, mode="r+", use_consolidated=False)
        said = _metadata(self.axes, self.scale, "0.4" if self._version2 else "0.5", self.levels)
        group.attrs.update((said if self._version2 else {"ome": said}) | {SOFTWARE: dict(origin)})
        (self.folder / ".made").unlink()
        self.folder.chmod(0o755)  # mkdtemp makes folders that only their owner may open
        replace_folder(self.folder, self.path)
        if self._inside:
            _enter(self.path)


def shapes_of_levels(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the shapes of the levels of large labels, each half of that before in the plane, until one is small."""
    found = [tuple(shape)]
    while max(found[-1][-2:]) > SMALLEST or (prod(found[-1]) > HELD and max(found[-1][-2:]) > TINY):
        found.append(_halved(shape, len(found)))
    return found


def _halved(shape: Sequence[int], level: int) -> tuple[int, ...]:
    """Return the shape of a level: only the plane becomes smaller."""
    return tuple(-(-n // 2**level) if i >= len(shape) - 2 else n for i, n in enumerate(shape))


def _metadata(axes: str, scale: Mapping[str, float], version: str, levels: int = 1) -> dict[str, Any]:
    """Return what NGFF says about a label image."""
    kinds = {"T": "time"}
    described: list[dict[str, str]] = []
    for letter in axes:
        unit = {"unit": "micrometer"} if letter in scale else {}
        described.append({"name": letter.lower(), "type": kinds.get(letter, "space"), **unit})
    datasets = []
    for level in range(levels):
        sizes = [scale.get(letter, 1) * (2**level if letter in axes[-2:] else 1) for letter in axes]
        steps = [{"type": "scale", "scale": [float(size) for size in sizes]}]
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    multiscale: dict[str, Any] = {"name": "labels", "axes": described, "datasets": datasets}
    if version == "0.4":
        multiscale["version"] = version
        return {"multiscales": [multiscale], "image-label": {"version": version}}
    return {"version": version, "multiscales": [multiscale], "image-label": {}}


def _enter(path: Path) -> None:
    """List a label image in the ``labels`` group that it lies in, and in consolidated metadata if there are any."""
    import zarr

    group = zarr.open_group(path.parent, mode="a", use_consolidated=False)
    said: dict[str, Any] = dict(group.attrs.asdict())
    listed = said.setdefault("ome", {"version": "0.5"}) if group.metadata.zarr_format == 3 else said
    listed["labels"] = list(dict.fromkeys([*listed.get("labels", ()), path.name]))
    group.attrs.update(said)
    image = path.parent.parent
    if zarr.open_group(image, mode="r").metadata.consolidated_metadata is not None:
        zarr.consolidate_metadata(image)


def _is_group(folder: Path) -> bool:
    return (folder / "zarr.json").exists() or (folder / ".zgroup").exists()
