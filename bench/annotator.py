"""How long a person needs until a model is right: a simulated annotator corrects, tile by tile, and lets it learn.

In each image it takes the 256² tile with most to see, segments it with the model as it is, corrects every object that
is off, calls the tile right and fine-tunes. It has brush and eraser (--hand brush), the tools of `learn.objects` too
(tools), and clicks too (clicks), which it tries up to five times on an object before it takes the brush. Each tile is
reviewed before it is learned from, as the dock does it (`learn.stopping`): the last lines say when that advised to
stop, and when the test score was 95 % of --goal (what all the data give: see fewshot.py --full). It ends when it has
seen both.

With --hands nothing is learned: tiles of each test set are corrected with each hand, as the model is. With --review
nothing is learned either: the tiles of each test set are corrected, and drawn again and again; it tells how often the
advice would be to stop.

Seconds are those of the keystroke-level model (Card, Moran & Newell 1980, doi:10.1145/358886.358895): M 1.35 to make
up one's mind, P 1.1 to point, B 0.1 for a button pressed or let go, K 0.28 a key, and D = 0.9 n + 0.16 l to draw n
strokes of l cm in all; and 0.4 to look at an object and find it right (model human processor, Card et al. 1983).

    python bench/annotator.py --goal 0.80 --json annotator.json
    python bench/annotator.py --hands --json hands.json
    python bench/annotator.py --review
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from accuracy import score
from clicks import typical_width
from data import LEARNED, TESTS, Labelled, read
from fewshot import CLASSES, DOMAINS, base, tiles
from report import arguments, report

from napari_unet.errors import DataError
from napari_unet.infer.clicks import Prompt, outline
from napari_unet.infer.familiar import plane_of
from napari_unet.infer.seen import see
from napari_unet.infer.segment import SegmentSettings, segment_job
from napari_unet.jobs import run
from napari_unet.learn import objects
from napari_unet.learn.clicks import middle, worst
from napari_unet.learn.corrections import Corrections, State
from napari_unet.learn.evaluate import headline
from napari_unet.learn.finetune import fine_tune
from napari_unet.learn.settings import TrainSettings
from napari_unet.learn.stopping import OBJECTS, Review, advice, review
from napari_unet.model import CLICKS, Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

M, P, B, K, LOOK = 1.35, 1.1, 0.1, 0.28, 0.4  # seconds, see above
CM = 0.05  # of screen for a pixel of the image: a 256² tile is shown 13 cm wide
STROKES = 8  # straight strokes that an outline is drawn with
ENOUGH = 0.95  # share of the goal at which the annotator stops
DRAWS = 2000  # of tiles, to see how often the advice is to stop
CLICKED = 5  # clicks at most on one object, before it is drawn
HANDS = ("brush", "tools", "clicks")
AUTOMATIC = (  # test set and the model that it is corrected from
    ("nuclei: fluorescence", "nuclei"),
    ("nuclei: histology", "nuclei"),
    ("phase cells", "phase-cells"),
    ("phase cells", "nuclei"),
)
SAME = 0.1  # share of a truth that a found object must cover to be meant for it


@dataclass
class Work:
    """What the annotator did."""

    seconds: float = 0.0
    actions: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("delete", "merge", "split", "click", "brush"), 0)
    )

    def does(self, action: str, seconds: float) -> None:
        """Count an action on an object."""
        self.actions[action] += 1
        self.seconds += seconds


def main() -> None:
    """Simulate one person for each seed and print a line for each round."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--domain", choices=[d for d in DOMAINS if d != "axons"], default="phase cells")
    parser.add_argument("--goal", type=float, help="AP.50 of the model that learned from all the data")
    parser.add_argument("--care", type=float, default=0.7, help="an object below this IoU is corrected")
    parser.add_argument("--hand", choices=HANDS, default="clicks", help="what objects are corrected with")
    parser.add_argument("--hands", action="store_true", help="learn nothing: compare what objects are corrected with")
    parser.add_argument("--tiles", type=int, default=20, help="of each set, with --hands")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of each fine-tuning; default: by the corrections")
    parser.add_argument("--review", action="store_true", help="learn nothing: only review what the model proposes")
    chosen = parser.parse_args()
    if chosen.review:
        report(review_sets(base(chosen.model, chosen.domain), chosen.care), chosen.json)
        return
    if chosen.hands:
        report(compare_hands(chosen.care, chosen.tiles), chosen.json)
        return
    if chosen.goal is None:
        parser.error("the annotator needs a --goal to reach, or --hands or --review")
    learned, test = (read(part[name]) for part, name in zip((LEARNED, TESTS), DOMAINS[chosen.domain], strict=True))
    rows: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        start = model = base(chosen.model, chosen.domain)
        work, given, reviews, seconds = Work(), [], [], 0.0
        enough = there = False
        for number, (each, window) in enumerate(tiles(learned, chosen.rounds, seed), start=1):
            corrections, seen = correct(model, each, window, work, care=chosen.care, hand=chosen.hand)
            given.append(corrections)
            reviews.append(seen)
            advised = advice(reviews)
            began = time.process_time()
            model = run(fine_tune(start, given, replace(TrainSettings(), seed=seed, steps=chosen.steps))).model
            seconds += time.process_time() - began
            reached = headline(score(model, test))
            rows.append({"seed": seed, "tiles": number, "objects": sum(work.actions.values())} | work.actions)
            rows[-1] |= {"minutes": work.seconds / 60, "CPU seconds": seconds, "AP.50": reached}
            rows[-1] |= {"looked at": sum(each.objects for each in reviews), "changed": advised.share}
            rows[-1] |= {"enough": advised.enough, "goal": reached >= ENOUGH * chosen.goal}
            print(rows[-1], flush=True)
            enough, there = enough or advised.enough, there or rows[-1]["goal"]
            if enough and there:
                break
    report(rows, chosen.json)
    for seed in range(chosen.seeds):
        mine = [row for row in rows if row["seed"] == seed]
        print(f"seed {seed}: {first(mine, 'enough', 'advice to stop')}; {first(mine, 'goal', '95 % of the goal')}")


def first(rows: list[dict[str, Any]], column: str, what: str) -> str:
    """Say in which round something was first so, and what it had taken until then."""
    row = next((row for row in rows if row[column]), None)
    if row is None:
        return f"{what}: not in {len(rows)} rounds"
    return f"{what}: round {row['tiles']}, {row['looked at']} objects looked at, AP.50 {row['AP.50']:.3f}"


def review_sets(model: Model, care: float) -> list[dict[str, Any]]:
    """Return for each test set of objects what is changed in its tiles, and how often draws of them mean stop."""
    random, rows = np.random.default_rng(0), []
    for name in (name for name in TESTS if name not in ("nuclei", *CLASSES)):
        images = read(TESTS[name])
        given = [correct(model, *tile, Work(), care=care, hand="tools") for tile in tiles(images, len(images), 0)]
        seen = [each for _, each in given]
        stops = 0
        for _ in range(DRAWS):
            drawn: list[Review] = []
            while sum(each.objects for each in drawn) < OBJECTS:
                drawn.append(seen[random.integers(len(seen))])
            stops += advice(drawn).enough
        objects, pixels = sum(each.objects for each in seen), sum(each.pixels for each in seen)
        rows.append({"set": name, "tiles": len(seen), "objects": objects})
        rows[-1] |= {"objects changed": sum(each.changed for each in seen) / objects}
        rows[-1] |= {"pixels changed": sum(each.pixels_changed for each in seen) / pixels, "stops": stops / DRAWS}
        print(rows[-1], flush=True)
    return rows


def correct(
    model: Model, each: Labelled, window: tuple[slice, ...], work: Work, *, care: float, hand: str
) -> tuple[Corrections, Review]:
    """Segment an image, correct a window of it until every object is right, call the window right and review it."""
    labels = run(segment_job(model, each.image, each.axes, SegmentSettings())).labels.astype(np.int64)
    state = np.zeros(labels.shape, np.uint8)
    state[window] = State.CONFIRMED
    part, truth = labels[window].copy(), each.mask[window].astype(np.int64)
    if hand != "brush":
        part = tidied(part, truth, work, care)
    fresh = int(labels.max()) + int(part.max()) + 1
    right, width = np.zeros_like(part), typical_width(labels)
    for number in np.unique(truth[truth > 0]):
        mine, found = truth == number, best(part, truth == number)
        there = part == found
        if found and overlap(there, mine) >= care:
            right[there & (right == 0)] = number + fresh  # good enough: left as it is
            work.seconds += LOOK
            continue
        outlined = clicked(each, number, window, width, work, care) if hand == "clicks" else None
        if outlined is None:
            work.does("brush", drawing(mine))
            outlined = mine
        right[outlined & (right == 0)] = number + fresh
        state[window][outlined] = State.PAINTED
    for number in np.unique(part[(part > 0) & (right == 0)]):  # what is left of it lies where no object is
        if (right[part == number] > 0).mean() <= SAME:
            work.does("delete", drawing(part == number) if hand == "brush" else M + P + K)
    seen = review(labels[window], right, state[window] > State.UNKNOWN)
    labels[window] = right
    work.seconds += M + P + 2 * B + K  # the next tile, and T
    return Corrections(each.image, labels, state, axes=each.axes, name=each.name), seen


def clicked(
    each: Labelled, number: int, window: tuple[slice, ...], width: float | None, work: Work, care: float
) -> NDArray[np.bool_] | None:
    """Click an object until its outline is right; return it in the window, None if that takes too many clicks."""
    truth = each.mask == number
    model = clicks_model()
    plane = plane_of(see(model, each.image, each.axes), (), 2)
    inside: list[Any] = [middle(truth)]
    outside: list[Any] = []
    work.seconds += M
    found = None
    for _ in range(CLICKED):
        work.seconds += P + 2 * B
        found = outline(model, plane, Prompt(tuple(inside), tuple(outside)), mask=found, width=width)
        said = np.zeros_like(truth)
        if found is not None:
            said[found.box] = found.mask
        if overlap(said[window], truth[window]) >= care:
            work.does("click", LOOK + K)
            return np.asarray(said[window])
        at, is_inside = worst(truth, said)
        (inside if is_inside else outside).append(at)
    work.seconds += LOOK + K
    return None


@cache
def clicks_model() -> Model:
    """Return the network that outlines what is clicked."""
    return Model.load(CLICKS)


def compare_hands(care: float, count: int) -> list[dict[str, Any]]:
    """Return what it takes to correct tiles of each test set with each hand, as the model is."""
    rows = []
    for name, model in AUTOMATIC:
        images = read(TESTS[name])
        for hand in HANDS:
            work = Work()
            seen = [
                correct(Model.load(model), *tile, work, care=care, hand=hand)[1]
                for tile in tiles(images, min(count, len(images)), 0)
            ]
            rows.append({"set": name, "model": model, "hand": hand, "objects": sum(r.objects for r in seen)})
            rows[-1] |= {"minutes": work.seconds / 60, "corrected": sum(work.actions.values())} | work.actions
            print(rows[-1], flush=True)
    return rows


def tidied(part: NDArray[Any], truth: NDArray[Any], work: Work, care: float) -> NDArray[Any]:
    """Merge and split found objects where that makes them right."""
    part = part.copy()
    for number in np.unique(truth[truth > 0]):
        mine = truth == number
        pieces, counts = np.unique(part[mine & (part > 0)], return_counts=True)
        sizes = np.array([np.count_nonzero(part == piece) for piece in pieces])
        pieces = pieces[counts > 0.5 * sizes]  # they lie mostly in this object
        if len(pieces) > 1 and overlap(np.isin(part, pieces), mine) >= care:
            edit = objects.merge(part, pieces.tolist())
            part[edit.region] = edit.values
            work.does("merge", M + P + 2 * B + P)
    for number in np.unique(part[part > 0]):
        inside, counts = np.unique(truth[(part == number) & (truth > 0)], return_counts=True)
        sizes = np.array([np.count_nonzero(truth == each) for each in inside])
        inside = inside[counts > 0.5 * sizes]
        if len(inside) < 2:
            continue
        middles = [np.argwhere((truth == each) & (part == number)).mean(axis=0).tolist() for each in inside]
        try:
            edit = objects.split_at(part, int(number), middles, int(part.max()) + 1)
        except DataError:  # a middle lies outside a crescent: the brush will do it
            continue
        tried = part.copy()
        tried[edit.region] = edit.values
        if all(overlap(tried == best(tried, truth == each), truth == each) >= care for each in inside):
            part = tried
            for _ in inside[1:]:
                work.does("split", M + P + 2 * B + P)
    return part


def drawing(mask: NDArray[np.bool_]) -> float:
    """Return the seconds that it takes to draw around an object; rubbing it out takes as long."""
    outline = 0.8 * int((mask ^ np.roll(mask, 1, 0)).sum() + (mask ^ np.roll(mask, 1, 1)).sum())
    return M + P + 2 * B + 0.9 * STROKES + 0.16 * CM * outline


def best(part: NDArray[Any], mine: NDArray[np.bool_]) -> int:
    """Return the found object that covers most of a true one; 0 if none does."""
    counts = np.bincount(part[mine])
    counts[0] = 0
    return int(counts.argmax()) if counts.max(initial=0) >= SAME * mine.sum() else 0


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the IoU of two masks."""
    return float(np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1))


if __name__ == "__main__":
    main()
