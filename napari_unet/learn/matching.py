"""Which objects of truth and prediction are the same: optimal pairs by IoU, from the runs of equal pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from napari_unet.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Matching:
    """Which objects of truth and prediction are the same at one IoU threshold, told by their ids."""

    threshold: float
    truth: NDArray[Any]  # matched objects: position i here and in `prediction` is a pair
    prediction: NDArray[Any]
    iou: NDArray[np.float64]  # of each pair
    missed: NDArray[Any]  # objects of the truth without a partner
    spurious: NDArray[Any]  # objects of the prediction without a partner


def match_objects(
    truth: ArrayLike, prediction: ArrayLike, threshold: float = 0.5, *, valid: ArrayLike | None = None
) -> Matching:
    """Pair the objects of truth and prediction at one IoU threshold, above 0 and up to 1.

    There are as many pairs as can be, and among all ways to have so many this has the largest sum of IoU.
    The arrays and the errors are those of `score_instances`.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"an IoU threshold is above 0 and up to 1, not {threshold}")
    return match_runs(read_runs(truth, prediction, valid), threshold)


@dataclass(frozen=True, eq=False)
class Runs:
    """Two labellings as runs of equal pixels: few numbers for many pixels, whatever the ids and the dtype."""

    truth: NDArray[Any]
    prediction: NDArray[Any]
    length: NDArray[np.int64]
    inside: NDArray[np.int64]  # the length where the pixels are valid, else 0


def read_runs(truth: ArrayLike, prediction: ArrayLike, valid: ArrayLike | None, kinds: str = "iu") -> Runs:
    """Check the arrays, and cut them (in C order) wherever one of them or `valid` changes."""
    labels = {"truth": np.asarray(truth), "prediction": np.asarray(prediction)}
    shape = labels["truth"].shape
    arrays = labels if valid is None else labels | {"mask of valid pixels": np.asarray(valid, dtype=bool)}
    for what, array in arrays.items():
        if array.shape != shape:
            raise DataError(
                f"The {what} has the shape {array.shape} and the truth {shape}, but they must be the same: "
                "score a segmentation with the masks of the very image that it was made from."
            )
    for what, array in labels.items():
        if array.dtype.kind not in kinds:
            raise DataError(
                f"The {what} is of type {array.dtype}, but labels are whole numbers, 0 for background: "
                "number the objects and save them as integers, for example uint32."
            )
    flat = [array.ravel() for array in arrays.values()]
    begins = np.ones(flat[0].size, dtype=bool)
    begins[1:] = np.logical_or.reduce([array[1:] != array[:-1] for array in flat])
    starts = np.flatnonzero(begins)
    values = [array[starts] for array in flat]
    for what, array in zip(labels, values, strict=False):
        if array.size and array.min() < 0:
            raise DataError(
                f"The {what} has a pixel of value {array.min()}, but labels are 0 for background or more: "
                "set such pixels to 0."
            )
    length = np.diff(starts, append=flat[0].size)
    return Runs(values[0], values[1], length, length if valid is None else length * values[2])


def _object_codes(values: NDArray[Any], runs: Runs) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Give the sorted ids, 0 first, and the position of each run's id among them: 0 for ignored objects."""
    ids = np.unique(np.append(values, np.zeros(1, values.dtype)))
    codes = np.searchsorted(ids, values)  # five times as fast as return_inverse, which has to argsort
    total, within = (np.bincount(codes, weights=n, minlength=len(ids)) for n in (runs.length, runs.inside))
    return ids, np.where((2 * within >= total)[codes], codes, 0)


def match_runs(runs: Runs, threshold: float) -> Matching:
    """Pair objects by way of the sparse table of the pixels that each truth shares with each prediction."""
    truth_ids, truth = _object_codes(runs.truth, runs)
    prediction_ids, prediction = _object_codes(runs.prediction, runs)
    shape = len(truth_ids), len(prediction_ids)
    table = coo_array((runs.inside, (truth, prediction)), shape=shape).tocsr()  # adds up equal places
    table.eliminate_zeros()
    truth_area: NDArray[np.int64] = table.sum(axis=1)
    prediction_area: NDArray[np.int64] = table.sum(axis=0)

    pairs = table.tocoo()
    rows, columns = pairs.row, pairs.col
    iou = pairs.data / (truth_area[rows] + prediction_area[columns] - pairs.data)
    good = (rows > 0) & (columns > 0) & (iou >= threshold)
    good[good] = _choose_pairs(rows[good], columns[good], iou[good])
    rows, columns = rows[good], columns[good]

    lonely_truth, lonely_prediction = truth_area > 0, prediction_area > 0
    lonely_truth[0] = lonely_prediction[0] = False
    lonely_truth[rows] = lonely_prediction[columns] = False
    return Matching(
        threshold=threshold,
        truth=truth_ids[rows],
        prediction=prediction_ids[columns],
        iou=iou[good],
        missed=truth_ids[lonely_truth],
        spurious=prediction_ids[lonely_prediction],
    )


def _choose_pairs(rows: NDArray[Any], columns: NDArray[Any], iou: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Choose the most pairs, each row and column once at most, and of such choices the largest sum of IoU.

    Pairs without rivals, as all with an IoU above 0.5 are, are simply taken. The others are a sparse
    assignment problem in which each row may also stay alone, at a price above all that IoU can win.
    """
    chosen = np.ones(len(rows), dtype=bool)
    contested = (np.bincount(rows)[rows] > 1) | (np.bincount(columns)[columns] > 1)
    if not contested.any():
        return chosen
    row_ids, row = np.unique(rows[contested], return_inverse=True)
    column_ids, column = np.unique(columns[contested], return_inverse=True)
    n, m = len(row_ids), len(column_ids)
    cost = np.append(1 + (1 - iou[contested]) / (n + 1), np.full(n, 3.0))
    places = np.append(row, np.arange(n)), np.append(column, m + np.arange(n))
    _, partner = min_weight_full_bipartite_matching(csr_array((cost, places), shape=(n, m + n)))
    chosen[contested] = partner[row] == column
    return chosen
