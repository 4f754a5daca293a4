"""Nuclei as a fluorescence microscope sees them: a field, a stack and a movie.

A nucleus is an ellipsoid with a bend (beans), smooth bumps, and some dozens of Gaussian spots in its own
frame: bright ones for condensed chromatin, dark ones for nucleoli. A widefield image adds up light along
the path, so that it falls off towards the edge and adds up where two nuclei lie on each other. Then come
the blur of the lens, stray light, uneven illumination, and a camera with shot noise (variance equal to the
mean) and read noise. The label of a pixel is the nucleus that it is deepest inside of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_unet.sample_data import scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Nucleus:
    """One nucleus: place, shape and chromatin, in units of a pixel of the finest axis."""

    centre: Array
    semi: Array  #: half axes, the shortest first
    frame: Array  #: rows: directions of the half axes
    bend: float  #: shift of the short axis along the long one; 0 is an ellipsoid, 0.4 a bean
    bumps: Array  #: waves on the unit sphere
    spots: Array  #: (n, ndim + 2): place in units of the half axes, width, strength
    brightness: float = 1.0
    blur: float = 1.3  #: sigma of the lens here, pixels: out of focus is more

    @property
    def reach(self) -> float:
        """No point of the nucleus is farther from its centre."""
        return float(self.semi.max() * 1.35)

    def own(self, points: Array) -> Array:
        """Points in the frame of the nucleus, in units of its half axes."""
        moved = points - self.centre.reshape(-1, *[1] * (points.ndim - 1))
        own = np.tensordot(self.frame, moved, 1) / self.semi.reshape(-1, *[1] * (points.ndim - 1))
        own[0] -= self.bend * (own[-1] ** 2 - 0.3)
        return own

    def level(self, points: Array) -> Array:
        """Radius in units of the edge's, less 1."""
        own = self.own(points)
        radius = np.sqrt((own**2).sum(0))
        bumps = scene.wave_sum(self.bumps, own / np.maximum(radius, 1e-6))
        return np.asarray(radius / (1 + bumps) - 1)

    def light(self, points: Array, roundness: float) -> Array:
        """Fluorescence; ``roundness`` 0.5 is a ball seen through (widefield), 0 an optical section."""
        own = self.own(points)
        texture = np.ones(points.shape[1:])
        for spot in self.spots:
            *place, width, strength = spot
            distance = sum((axis - at) ** 2 for axis, at in zip(own, place, strict=True))
            texture += strength * np.exp(-distance / (2 * width**2))
        depth = np.clip(-self.level(points), 0, 1)
        profile = np.where(depth > 0, (1 - (1 - depth) ** 2) ** roundness, 0.0)
        return self.brightness * np.clip(texture, 0.1, None) * profile


def draw_nucleus(rng: np.random.Generator, centre: Array, diameter: float, elongation: float) -> Nucleus:
    """Draw a nucleus of about the given diameter; ``elongation`` is long over short axis."""
    ndim = len(centre)
    semi = np.full(ndim, diameter / 2)
    semi[0] /= np.sqrt(elongation)
    semi[-1] *= np.sqrt(elongation)
    frame = np.linalg.qr(rng.normal(size=(ndim, ndim)))[0]
    fine, lumps, nucleoli = 55, 12, int(rng.integers(1, 5))
    widths = rng.uniform(0.06, 0.13, fine), rng.uniform(0.2, 0.4, lumps), rng.uniform(0.1, 0.17, nucleoli)
    strengths = rng.normal(0.02, 0.16, fine), rng.normal(0, 0.11, lumps), rng.uniform(-0.6, -0.3, nucleoli)
    width, strength = np.concatenate(widths), np.concatenate(strengths)
    if ndim == 3:  # an optical section shows single spots, but each fills less of the volume
        width, strength = 1.5 * width, 1.3 * strength
    direction = rng.normal(size=(len(width), ndim))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = rng.uniform(0, 1, (len(width), 1)) ** (1 / ndim) * 0.95
    radius[fine + lumps :] *= 0.65
    return Nucleus(
        centre=np.asarray(centre, float),
        semi=semi,
        frame=frame,
        bend=float(rng.choice([0.0, 1.0], p=[0.75, 0.25]) * rng.uniform(0.15, 0.4)),
        bumps=scene.waves(rng, ndim, 6, 1.9, 0.075),
        spots=np.hstack([direction * radius, width[:, None], strength[:, None]]),
        brightness=float(np.exp(rng.normal(0, 0.28))),
        blur=float(1.1 + rng.gamma(1.2, 0.35)),
    )


def plate(nucleus: Nucleus, brightness: float) -> Nucleus:
    """Condense a nucleus to the bar of chromosomes of a cell that divides."""
    size = float(np.prod(nucleus.semi) ** (1 / len(nucleus.semi)))
    semi = np.full(len(nucleus.semi), size * 1.05)
    semi[0] = size * 0.5
    return replace(nucleus, semi=semi, bend=0.1, bumps=nucleus.bumps * 1.4, brightness=brightness)


def expose(nuclei: Sequence[Nucleus], shape: Sequence[int], step: Sequence[float], roundness: float) -> Array:
    """Sum the light of nuclei, each blurred in the plane by its own distance from focus."""
    light = np.zeros(tuple(shape))
    for nucleus in nuclei:
        where = scene.window(nucleus, shape, step, margin=4 * nucleus.blur)
        own = nucleus.light(scene.points_of(where, step), roundness)
        sigma = [nucleus.blur if unit == min(step) else 0 for unit in step]
        light[where] += ndimage.gaussian_filter(own, sigma, mode="nearest")
    return light


def camera(rng: np.random.Generator, photons: Array, read: float, offset: float, top: int) -> Array:
    """Digitise photons: shot noise, read noise, offset, rounded and clipped to 0 ... ``top``."""
    noisy = photons + np.sqrt(np.maximum(photons, 0)) * rng.normal(size=photons.shape)
    noisy += rng.normal(0, read, photons.shape) + offset
    return np.clip(np.rint(noisy), 0, top)


def nuclei(seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Make a field of cultured nuclei in clumps: image and labels, ``(512, 512)``."""
    rng = np.random.default_rng(seed)
    size, pad, step = 512, 40, (1.0, 1.0)
    canvas = (size + 2 * pad,) * 2

    def draw(centre: Array) -> Nucleus:
        diameter = float(np.clip(26 * np.exp(rng.normal(0, 0.17)), 18, 34))
        if rng.uniform() < 0.025:  # in mitosis; its DNA has doubled
            return plate(draw_nucleus(rng, centre, max(diameter, 26), 1.0), rng.uniform(2.2, 3.0))
        return draw_nucleus(rng, centre, diameter, rng.uniform(1.0, 1.8))

    numbers = np.minimum(rng.geometric(0.25, 42), 9)
    clumps = [(rng.uniform(0, canvas[0], 2), int(n)) for n in numbers]
    placed = scene.place(rng, canvas, step, clumps, draw, overlap=0.07, spread=15)
    inner = [replace(n, centre=n.centre - pad) for n in placed]
    inner, labels = scene.settle(inner, (size, size), step, min_size=40)
    light = expose(inner, (size, size), step, 0.3)
    light += 0.10 * ndimage.gaussian_filter(light, 6) + 0.3 * ndimage.gaussian_filter(light, 40) + 0.03
    y, x = np.indices((size, size)) / size - 0.5
    lamp = 1 - 0.8 * ((y + 0.12) ** 2 + (x - 0.15) ** 2) + 0.1 * x
    image = camera(rng, 330 * light * lamp, 2.5, 100, 4095)
    return image.astype(np.uint16), labels


def nuclei_3d(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Make a confocal stack of nuclei in tissue: image and labels, ``(24, 128, 128)`` ZYX."""
    rng = np.random.default_rng(seed)
    shape, step = (24, 128, 128), (2.5, 1.0, 1.0)
    extent = np.array(shape) * step

    def draw(centre: Array) -> Nucleus:
        drawn = draw_nucleus(rng, centre, float(np.clip(rng.normal(22, 2.2), 17, 27)), rng.uniform(1.0, 1.6))
        return replace(drawn, blur=0.9)

    clumps = [(rng.uniform(-0.05, 1.05, 3) * extent, int(n)) for n in rng.integers(1, 7, 12)]
    placed = scene.place(rng, shape, step, clumps, draw, overlap=0.02, spread=12)
    placed, labels = scene.settle(placed, shape, step, min_size=150)
    light = expose(placed, shape, step, 0.12)
    light = ndimage.gaussian_filter1d(light, 1.1, axis=0, mode="nearest")
    light += 0.05 * ndimage.gaussian_filter(light, (4, 14, 14)) + 0.03
    depth = np.exp(-np.arange(shape[0]) / 26.0)[:, None, None]
    image = camera(rng, 115 * light * depth, 1.0, 4, 255)
    return image.astype(np.uint8), labels


MOVIE_FRAMES = 12
DIVISIONS = ((3, 4), (9, 7))  #: id of the mother, first frame with two daughters


def movie(seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Make a movie of nuclei that move, grow and divide: image and labels, ``(12, 192, 192)`` TYX.

    A nucleus keeps its id; both daughters of a division get new ids, in the order of the divisions.
    """
    rng = np.random.default_rng(seed)
    shape, step = (192, 192), (1.0, 1.0)

    def draw(centre: Array) -> Nucleus:
        return draw_nucleus(rng, np.clip(centre, 24, 168), rng.uniform(20, 25), rng.uniform(1.05, 1.6))

    clumps = [(rng.uniform(25, 167, 2), int(n)) for n in (3, 1, 4, 2, 1, 2)]
    first = scene.place(rng, shape, step, clumps, draw, overlap=0.0, spread=22)
    alive = {number: replace(nucleus, blur=1.2) for number, nucleus in enumerate(first, 1)}
    newest = len(first)
    speed = {number: rng.normal(0, 1.8, 2) for number in alive}
    image = np.zeros((MOVIE_FRAMES, *shape), np.uint16)
    labels = np.zeros((MOVIE_FRAMES, *shape), np.uint16)
    for frame in range(MOVIE_FRAMES):
        for mother, birth in DIVISIONS:
            if frame == birth:
                for sign in (-1, 1):
                    newest += 1
                    alive[newest] = daughter(rng, alive[mother], sign)
                    speed[newest] = 3.0 * sign * alive[newest].frame[0]
                del alive[mother]
        shown = {number: phase(nucleus, number, frame, len(first)) for number, nucleus in alive.items()}
        found = scene.owners(list(shown.values()), shape, step)
        labels[frame] = np.array([0, *shown], np.uint16)[found]
        light = expose(list(shown.values()), shape, step, 0.3)
        light = 0.98**frame * (light + 0.15 * ndimage.gaussian_filter(light, 20) + 0.03)
        image[frame] = camera(rng, 160 * light, 2.0, 100, 4095)
        alive = move(rng, alive, speed)
    return image, labels


def phase(nucleus: Nucleus, number: int, frame: int, founders: int) -> Nucleus:
    """Give the nucleus the look of its phase: a plate before and just after its division, else as it is."""
    births = dict(DIVISIONS)
    if number in births and births[number] - frame == 1:
        return plate(nucleus, 2.3 * nucleus.brightness)
    if number > founders:
        age = frame - DIVISIONS[(number - founders - 1) // 2][1]
        if age == 0:
            return plate(nucleus, 1.9 * nucleus.brightness)
        return replace(nucleus, brightness=nucleus.brightness * (1 + 0.5 * 0.5**age))
    if number in births and births[number] - frame == 2:
        return replace(nucleus, semi=np.full(2, nucleus.semi.mean()), brightness=1.3 * nucleus.brightness)
    return nucleus


def daughter(rng: np.random.Generator, mother: Nucleus, sign: int) -> Nucleus:
    """Half of a dividing nucleus, moved out along the mother's short axis."""
    size = float(mother.semi.mean())
    born = draw_nucleus(rng, mother.centre + sign * 0.62 * size * mother.frame[0], 1.55 * size, 1.3)
    return replace(born, frame=mother.frame, bend=0.0, brightness=mother.brightness, blur=mother.blur)


def move(rng: np.random.Generator, alive: dict[int, Nucleus], speed: dict[int, Array]) -> dict[int, Nucleus]:
    """Nuclei one frame later: a walk that keeps its direction for a while, turning, growth, no overlap."""
    moved: dict[int, Nucleus] = {}
    for number, nucleus in alive.items():
        speed[number] = 0.7 * speed[number] + rng.normal(0, 1.3, 2)
        turn = rng.normal(0, 0.06)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        semi = nucleus.semi * (1.006 if nucleus.semi.mean() < 13 else 1)
        centre = nucleus.centre + speed[number]
        moved[number] = replace(nucleus, centre=centre, frame=nucleus.frame @ rotation, semi=semi)
    centres = np.array([nucleus.centre for nucleus in moved.values()])
    radii = np.array([nucleus.semi.mean() for nucleus in moved.values()])
    for _ in range(12):
        apart = centres[:, None] - centres[None]
        distance = np.linalg.norm(apart, axis=-1) + 1e3 * np.eye(len(radii))
        near = np.maximum(0.95 * (radii[:, None] + radii[None]) - distance, 0)
        centres += 0.4 * (apart * (near / distance)[..., None]).sum(1)
        centres = np.clip(centres, 14, 177)
    return {n: replace(moved[n], centre=centre) for n, centre in zip(moved, centres, strict=True)}
