"""Spread cells as a phase contrast microscope sees them.

A cell is a body with a few tapering arms, joined smoothly, so that its edge is hollow between the tips, as
that of a crawling fibroblast; some are compact, some have rounded up to divide. Each gives the light a phase
by its thickness: a thin lamella, a thicker middle, a nucleus with nucleoli, granules. Phase contrast
shows the phase less its blurred surroundings, which makes thick parts dark, edges bright outside (halo),
and wide flat parts nearly as grey as the background (shade-off). Background, debris and camera noise come
on top. The label of a pixel is the cell that it is deepest inside of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_unet.sample_data import scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

STEP = (1.0, 1.0)


@dataclass(frozen=True)
class Cell:
    """One cell: a place, arms, and a ragged edge; all lengths in pixels."""

    centre: Array
    arms: Array  #: (n, 4): angle, length, half width at the body and at the tip
    edge: Array  #: waves of the edge
    rounded: bool = False

    @property
    def reach(self) -> float:
        """No point of the cell is farther from its centre."""
        return float((self.arms[:, 1] + self.arms[:, 3]).max() + 16)

    def level(self, points: Array) -> Array:
        """Distance from the edge in pixels, negative inside (about)."""
        y, x = (axis - at for axis, at in zip(points, self.centre, strict=True))
        softness = 6.5
        near = np.zeros(y.shape)
        for angle, length, body, tip in self.arms:
            sine, cosine = np.sin(angle), np.cos(angle)
            along = np.clip((y * sine + x * cosine) / length, 0, 1)
            distance = np.hypot(y - along * length * sine, x - along * length * cosine)
            near += np.exp(-(distance - (body + (tip - body) * along**0.8)) / softness)
        joined = -softness * np.log(np.maximum(near, 1e-30) / (1 + 0.25 * (len(self.arms) - 1)))
        return np.asarray(joined + scene.wave_sum(self.edge, np.stack([y, x])))


def draw_cell(rng: np.random.Generator, centre: Array, direction: float) -> Cell:
    """Draw a cell: two in five spindles along ``direction``, else polygons, compact ones and round ones."""
    kind = rng.choice(["spindle", "polygon", "compact", "round"], p=[0.39, 0.47, 0.125, 0.015])
    if kind == "round":
        arms = np.array([[0.0, 0.5, 10.0, 10.0]])
        return Cell(np.asarray(centre), arms, scene.waves(rng, 2, 4, 0.1, 0.5), rounded=True)
    if kind == "spindle":
        angles = direction + np.array([0, np.pi]) + rng.normal(0, 0.22, 2)
        bodies, tips = np.full(2, rng.uniform(10, 14)), rng.uniform(1, 5, 2)
        arms = np.column_stack([angles, rng.uniform(38, 60, 2), bodies, tips])
    else:
        count = int(rng.integers(3, 6))
        angles = direction + (np.arange(count) + rng.uniform(-0.28, 0.28, count)) * 2 * np.pi / count
        stretch = 1 + 0.45 * np.abs(np.cos(angles - direction))
        length, body, tip = ((22, 42), (12, 17), 1.8) if kind == "polygon" else ((10, 24), (15, 18), 9.0)
        tips = tip * rng.uniform(0.8, 2.2, count)
        bodies = np.full(count, rng.uniform(*body))
        arms = np.column_stack([angles, rng.uniform(*length, count) * stretch, bodies, tips])
    return Cell(np.asarray(centre), arms, scene.waves(rng, 2, 10, 0.22, 1.5))


def thickness(rng: np.random.Generator, cell: Cell, mask: NDArray[np.bool_], points: Array) -> Array:
    """Phase that the cell adds in its window, in units of the thickest spread cell's."""
    depth = np.asarray(ndimage.distance_transform_edt(mask))
    deepest = max(float(depth.max()), 3.0)
    if cell.rounded:
        outside = np.asarray(ndimage.distance_transform_edt(~mask))
        body = 0.95 * (1 - np.exp(-depth / 1.5)) + spots(rng, depth, 60, 1.2, 0.7)
        ring = -0.55 * np.exp(-(((outside - 2.0) / 2.4) ** 2))  # a ball refracts light outwards
        return np.where(mask, body, ring)
    inner = ndimage.gaussian_filter(depth / deepest, 2.0)
    noise = rng.normal(size=mask.shape)
    grain = ndimage.gaussian_filter(noise, 0.9) - ndimage.gaussian_filter(noise, 2.5)
    phase = rng.uniform(0.34, 0.52) * (1 - np.exp(-depth / 1.2)) + 0.45 * inner + 0.16 * grain
    ruffle = ndimage.gaussian_filter(rng.normal(size=mask.shape), 4.0).clip(0) * 7
    phase += ruffle * np.exp(-depth / 2.0)
    area = int(mask.sum())
    phase += spots(rng, depth, area // 24, 0.75, 0.55) + spots(rng, depth, area // 260, 1.3, 0.8)
    core = np.argmax(inner * mask)
    middle = np.array([axis.flat[core] for axis in points])
    y, x = (axis - at for axis, at in zip(points, middle, strict=True))
    sine, cosine = np.sin(cell.arms[0, 0]), np.cos(cell.arms[0, 0])
    long, short = min(9.5, 0.8 * deepest), min(6.5, 0.6 * deepest)
    radius = np.hypot((x * cosine + y * sine) / long, (y * cosine - x * sine) / short)
    smooth = 0.3 + 0.45 * inner + 0.05 * grain
    phase = np.where(radius < 1, smooth, phase)
    phase += rng.uniform(0.05, 0.18) * np.exp(-(((radius - 1) / 0.12) ** 2))
    for _ in range(int(rng.integers(1, 4))):
        at = rng.normal(0, 0.35, 2)
        phase += 0.5 * np.exp(-((y - at[0] * short) ** 2 + (x - at[1] * short) ** 2) / (2 * 1.1**2))
    return np.where(mask, np.maximum(phase, 0), 0)


def spots(rng: np.random.Generator, depth: Array, count: int, sigma: float, strength: float) -> Array:
    """Small round bodies, likelier where the cell is deep."""
    weight = np.clip(depth - 1, 0, None) ** 1.2
    field = np.zeros(depth.shape)
    if weight.sum() > 0:
        picked = rng.choice(depth.size, count, p=(weight / weight.sum()).ravel())
        sign = rng.choice([1.0, -0.5], count, p=[0.85, 0.15])  # most are dark, some bright
        np.add.at(field.reshape(-1), picked, sign * rng.uniform(0.2, 1.0, count))
    return np.asarray(ndimage.gaussian_filter(field, sigma) * strength * 2 * np.pi * sigma**2)


def debris(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Phase of specks and crumbs that lie about between the cells."""
    field = np.zeros(shape)
    for _ in range(90):
        at = rng.uniform(0, shape[0], 2)
        for offset in rng.normal(0, 3.0, (int(rng.integers(1, 9)), 2)):
            row, column = np.clip(np.rint(at + offset).astype(int), 0, shape[0] - 1)
            field[row, column] += rng.uniform(0.5, 2.0)
    dirt = ndimage.gaussian_filter(field, 1.0)
    patches = ndimage.gaussian_filter(rng.uniform(-1, 1, shape), 12).clip(0)
    film = patches * ndimage.gaussian_filter(rng.normal(size=shape), 1.2)
    return np.asarray(dirt + 2.0 * film)


def lamp(shape: tuple[int, int]) -> Array:
    """Background brightness: a slow slope, the meniscus at the left, one speck of dust out of focus."""
    y, x = np.indices(shape) / shape[0]
    slope = 1 + 0.10 * (y - 0.5) - 0.06 * (x - 0.5)
    meniscus = 0.28 * np.exp(-x / 0.04) - 0.05 * np.exp(-(((x - 0.1) / 0.05) ** 2))
    ring = np.hypot(y - 0.27, x - 0.71) / 0.05
    return np.asarray(slope + meniscus + 0.025 * np.cos(5 * ring) * np.exp(-(ring**2)))


def cells(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Make a field of spread, touching cells: image and labels, ``(512, 512)``."""
    rng = np.random.default_rng(seed)
    size, pad = 512, 60
    canvas = (size + 2 * pad,) * 2
    flow = scene.waves(rng, 2, 6, 0.006, 1.2)

    def draw(centre: Array) -> Cell:
        return draw_cell(rng, centre, float(scene.wave_sum(flow, np.asarray(centre).reshape(2, 1))[0]))

    clumps = [(rng.uniform(0, canvas[0], 2), int(n)) for n in rng.integers(2, 9, 22)]
    placed = scene.place(rng, canvas, STEP, clumps, draw, overlap=0.14, spread=30, tries=16)
    inner = [replace(cell, centre=cell.centre - pad) for cell in placed]
    inner, labels = scene.settle(inner, (size, size), STEP, min_size=90)
    phase = debris(rng, (size, size)) * (labels == 0)
    for number, cell in enumerate(inner, 1):
        where = scene.window(cell, (size, size), STEP, margin=2)
        phase[where] += thickness(rng, cell, labels[where] == number, scene.points_of(where, STEP))
    phase = ndimage.gaussian_filter(phase, 0.7)
    around = 0.6 * ndimage.gaussian_filter(phase, 2.2) + 0.4 * ndimage.gaussian_filter(phase, 10)
    seen = phase - around
    light = 108 * lamp((size, size)) * np.where(seen > 0, 1 - 0.62 * np.tanh(seen / 0.75), 1 - 1.6 * seen)
    image = np.clip(np.rint(light + rng.normal(0, 1.5, light.shape)), 0, 255)
    return image.astype(np.uint8), labels
