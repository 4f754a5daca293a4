"""What other programs take for the image that speed.py shows us: a short function each, run by whichever Python has it.

None may load its published weights here, so all networks have random ones (seed 0): as fast, but without objects. Where
the way from maps to labels is measured, it gets the maps that a perfect network would give of the true labels.

    python bench/rivals.py cellpose IMAGE.tif TRUE_LABELS.tif
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ENOUGH = 10.0  # seconds after which nothing is measured again
WINDOW = 512  # pixels of a tile


class Rival(NamedTuple):
    """What is measured of one program."""

    about: str
    network: Callable[[NDArray[Any]], object]  # from the image as it is in the file
    masks: Callable[[], NDArray[Any]] | None = None  # from perfect maps


def main() -> None:
    """Measure one and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=RIVALS)
    parser.add_argument("image", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    rival = RIVALS[chosen.name](tifffile.imread(chosen.truth))
    print(json.dumps(measure(rival, chosen.image, chosen.repeats)))


def measure(rival: Rival, path: Path, repeats: int) -> dict[str, Any]:
    """Return the median seconds from file to labels file, and of its parts."""
    rival.network(tifffile.imread(path)[:WINDOW, :WINDOW])  # warm
    took: dict[str, list[float]] = {"network s": [], "masks s": [], "array s": [], "file s": []}
    objects: int | str = ""
    while len(took["network s"]) < repeats and sum(took["network s"]) + sum(took["masks s"]) < ENOUGH:
        began = time.perf_counter()
        image = tifffile.imread(path)
        read = time.perf_counter()
        rival.network(image)
        seen = time.perf_counter()
        took["network s"].append(seen - read)
        if rival.masks is None:
            continue
        labels = rival.masks()
        cut = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            tifffile.imwrite(Path(folder) / "labels.tif", labels.astype(np.uint32), compression="zlib")
            written = time.perf_counter()
        took["masks s"].append(cut - seen)
        took["array s"].append(cut - read)
        took["file s"].append(written - began)
        objects = len(np.unique(labels)) - 1
    medians = {key: statistics.median(times) if times else "" for key, times in took.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"objects": objects, **medians, "peak GB": peak, "measured": rival.about}


def cellpose(truth: NDArray[Any]) -> Rival:
    """Cellpose 3 as `CellposeModel.eval` runs it, in its standard settings; no search for the diameter."""
    import torch
    from cellpose import dynamics, models

    torch.manual_seed(0)
    model = models.CellposeModel(gpu=False, pretrained_model=False)
    flows = (
        5 * dynamics.labels_to_flows([truth.astype(np.int32)], device=model.device)[0][2:4]
    )  # the network gives five times the flow
    inside = np.where(truth > 0, 6.0, -6.0).astype(np.float32)
    return Rival(
        f"cellpose {version('cellpose')}, float32, scale 1; masks from the flows of the true labels",
        lambda image: model.eval(image, channels=[0, 0], diameter=None, compute_masks=False),
        lambda: model._compute_masks((1, *truth.shape, 1), flows[:, None], inside[None], niter=200),
    )


def stardist(truth: NDArray[Any]) -> Rival:
    """StarDist with the architecture and the thresholds of its model 2D_versatile_fluo."""
    import tensorflow
    from csbdeep.utils import normalize
    from stardist.geometry import star_dist
    from stardist.models import Config2D, StarDist2D
    from stardist.utils import edt_prob

    tensorflow.random.set_seed(0)
    model = StarDist2D(Config2D(n_rays=32, grid=(2, 2)), name=None, basedir=None)
    likely, rays = edt_prob(truth)[::2, ::2], star_dist(truth, 32)[::2, ::2]
    return Rival(
        f"stardist {version('stardist')}, tensorflow {tensorflow.__version__}; masks from the rays of the true labels",
        lambda image: model.predict(normalize(image, 1, 99.8)),
        lambda: model._instances_from_prediction(truth.shape, likely, rays, prob_thresh=0.479, nms_thresh=0.3)[0],
    )


def instanseg(_: NDArray[Any]) -> Rival:
    """InstanSeg's network for nuclei with its standard widths, over the whole image at once."""
    import torch
    from instanseg.utils.models.InstanSeg_UNet import InstanSeg_UNet

    torch.manual_seed(0)
    network = InstanSeg_UNet(in_channels=3, out_channels=[[2, 2, 1]], layers=[256, 128, 64, 32], norm="BATCH").eval()

    def run(image: NDArray[Any]) -> torch.Tensor:
        with torch.inference_mode():
            return network(torch.from_numpy(np.float32(image) / image.max()).expand(1, 3, -1, -1))

    return Rival(f"instanseg-torch {version('instanseg-torch')}, float32, the network alone, not tiled", run)


def monai(_: NDArray[Any]) -> Rival:
    """Our network, folded and in the precision of our engine, by MONAI's sliding window."""
    import torch
    from monai.inferers import sliding_window_inference

    from napari_unet.infer.engine import torch_engine
    from napari_unet.model import Model
    from napari_unet.nets.unet import activate

    model = Model.load("nuclei")
    engine = torch_engine(model.network, "cpu")

    def run(image: NDArray[Any]) -> torch.Tensor:
        x = engine.load(np.repeat(np.float32(image)[None] / image.max(), model.config.in_channels, axis=0))
        with torch.inference_mode():
            return sliding_window_inference(
                x, WINDOW, 1, lambda part: activate(engine.network(part), model.config.classes), overlap=0.25
            )

    about = f"monai {version('monai')}, our network in {engine.dtype}, windows of {WINDOW}², overlap .25"
    return Rival(about.replace("torch.", ""), run)


def nnunet(_: NDArray[Any]) -> Rival:
    """nnU-Net's predictor with the 2-D network that it plans for patches of 512²; without its mirrored looks."""
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.manual_seed(0)
    widths = [32, 64, 128, 256, 512, 512, 512, 512]
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.network = PlainConvUNet(
        1,
        len(widths),
        widths,
        torch.nn.Conv2d,
        3,
        [1, *[2] * (len(widths) - 1)],
        2,
        3,
        2,
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    predictor.configuration_manager = SimpleNamespace(patch_size=(WINDOW, WINDOW))
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=3)  # background, inside, boundary

    def run(image: NDArray[Any]) -> torch.Tensor:
        x = torch.from_numpy(np.float32((image - image.mean()) / image.std()))
        return predictor.predict_sliding_window_return_logits(x[None, None])

    about = f"nnunetv2 {version('nnunetv2')}, float32, PlainConvUNet, patches of {WINDOW}², step .5, no mirroring"
    return Rival(about, run)


RIVALS: dict[str, Callable[[NDArray[Any]], Rival]] = {
    "cellpose": cellpose,
    "stardist": stardist,
    "instanseg": instanseg,
    "monai": monai,
    "nnunet": nnunet,
}

if __name__ == "__main__":
    main()
