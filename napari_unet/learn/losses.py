"""Losses that count only pixels that somebody vouched for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Pixels between two objects are few and decide whether these are told apart, so they count five times.
CROWDED = 4.0
# Boundary and distance are only read inside objects. In sparse images the background, where both are 0, would
# otherwise be all that these two learn.
OUTSIDE = 0.1


def total_loss(logits: Tensor, target: Tensor, weight: Tensor, classes: int) -> Tensor:
    """Return cross-entropy + Dice of the classes, and cross-entropy of boundary and distance where present.

    Each term is a weighted mean over known pixels: an unknown pixel (weight 0) adds nothing to the value,
    nothing to the denominators, and gets no gradient. The terms are about equally large at the start, so they
    are added with equal weight.

    Parameters
    ----------
    logits : Tensor
        ``(N, classes [+ 2], *spatial)``.
    target : Tensor
        ``(N, 3, *spatial)``: class, object number, distance.
    weight : Tensor
        ``(N, 3, *spatial)``: of the class; of the boundary; of the distance.
    classes : int
        Class channels, background included.

    Returns
    -------
    Tensor
        One number; 0 where nothing is known.
    """
    logits = logits.float()
    known = weight[:, 0]
    truth = target[:, 0].long()
    crowd = 1 + CROWDED * crowded(target[:, 1] * (known > 0))
    loss = weighted_mean(F.cross_entropy(logits[:, :classes], truth, reduction="none"), known * crowd)
    loss = loss + dice_loss(logits[:, :classes].softmax(dim=1), truth, known)
    if logits.shape[1] > classes:
        edges = torch.stack((boundary(target[:, 1]), target[:, 2]), dim=1)
        wrong = F.binary_cross_entropy_with_logits(logits[:, classes:], edges, reduction="none")
        # cross-entropy with a soft target has a floor, its entropy: taken off, 0 means perfect
        floor = F.binary_cross_entropy(edges, edges, reduction="none")
        inside = target[:, 1] > 0
        where = torch.where(inside, 1.0, OUTSIDE) * crowd
        for i, each in enumerate((weight[:, 1], weight[:, 2])):
            loss = loss + weighted_mean((wrong - floor)[:, i], each * where)
    return loss


def dice_loss(probabilities: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return 1 - the mean soft Dice of all classes but the background (Milletari et al. 2016).

    The sums run over the whole batch, so that a tile without a class is no disaster. A class that no known
    pixel has is left out.

    Parameters
    ----------
    probabilities : Tensor
        ``(N, classes, *spatial)``.
    truth : Tensor
        ``(N, *spatial)``, class numbers.
    weight : Tensor
        ``(N, *spatial)``, 0 where nothing is known.
    """
    one_hot = F.one_hot(truth, probabilities.shape[1]).movedim(-1, 1).to(probabilities)[:, 1:]
    everything = [0, *range(2, one_hot.ndim)]
    w = weight[:, None]
    overlap = (w * one_hot * probabilities[:, 1:]).sum(dim=everything)
    there = (w * one_hot).sum(dim=everything)
    said = (w * probabilities[:, 1:]).sum(dim=everything)
    loss = 1 - 2 * overlap / (there + said).clamp_min(1e-6)
    present = (there > 0).to(loss)
    return (loss * present).sum() / present.sum().clamp_min(1)


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of values by weight, 0 if all weights are 0."""
    return (values * weight).sum() / weight.sum().clamp_min(1e-6)


def crowded(objects: Tensor) -> Tensor:
    """Return 1 within two pixels of two different objects, else 0; object numbers ``(N, *spatial)``.

    The purpose of the weight map of Ronneberger et al. 2015 (arXiv:1505.04597, eq. 2), by pooling.
    """
    meet: Tensor = highest(objects, 2) > -highest(torch.where(objects > 0, -objects, -torch.inf), 2)
    return meet.to(objects)


def boundary(objects: Tensor) -> Tensor:
    """Return 1 on object pixels that touch another number, else 0; object numbers ``(N, *spatial)``."""
    differs = highest(objects, 1) != -highest(-objects, 1)
    return (differs & (objects > 0)).to(objects)


def highest(values: Tensor, reach: int) -> Tensor:
    """Return the highest value within `reach` pixels along each axis of ``(N, *spatial)``.

    What ``max_pool`` does; shifted copies, one axis after the other, took a thirtieth of its time on a processor.
    """
    for axis in range(1, values.ndim):
        length, found = values.shape[axis], values.clone()
        for shift in range(1, min(reach, length - 1) + 1):
            for to, start in ((0, shift), (shift, 0)):
                part = found.narrow(axis, to, length - shift)
                torch.maximum(part, values.narrow(axis, start, length - shift), out=part)
        values = found
    return values
