"""Models whose answers are known beforehand, for all tests."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Protocol

import hypothesis
import pytest

# No test asserts a time: a busy machine is no bug.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

# The networks here are tiny: on a busy machine several threads wait for one another longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from napari_unet import Model


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several test processes a screen of its own: else they would share the pointer and the focus."""
    if not hasattr(config, "workerinput") or shutil.which("Xvfb") is None:
        return
    number, told = os.pipe()
    # with -terminate it ends with the process that it is for, also if that is killed
    screen = ["Xvfb", "-displayfd", str(told), "-screen", "0", "1920x1080x24", "-nolisten", "tcp", "-terminate"]
    running = subprocess.Popen(screen, pass_fds=[told], stderr=subprocess.DEVNULL)
    os.close(told)
    config.add_cleanup(lambda: running.wait(10))
    config.add_cleanup(running.kill)  # first: what was added last is called first
    with os.fdopen(number) as file:
        if not select.select([file], [], [], 60)[0] or not (answer := file.readline().strip()):
            raise pytest.UsageError("Xvfb does not start: run the tests in one process, with PROCESSES=0.")
    os.environ["DISPLAY"] = f":{answer}"
    os.environ.pop("XAUTHORITY", None)  # of the screen that they were started on


class Thresholding(Protocol):
    """Make a model that takes for an object what is above half brightness; see :func:`thresholding`."""

    def __call__(self, **how: Any) -> Model: ...


@pytest.fixture
def thresholding() -> Thresholding:
    """Return a maker of models that need no training: each pixel for itself, an object where it is bright.

    The arguments are those of ``Model.new``. The class of a model of classes is the brightness in steps:
    0, 1, 2 … from 0 to 1. Channels are averaged.
    """

    def make(**how: Any) -> Model:
        import torch

        from napari_unet import Model

        model = Model.new(**{"width": 1, "depth": 0, **how})
        classes, inputs = model.config.classes, model.config.in_channels
        middle = (slice(None), slice(None), *[1] * model.ndim)
        with torch.no_grad():
            first, _, _, second, _, _ = model.network.down[0]
            for layer, value in ((first, 1 / inputs), (second, 1.0)):
                layer.weight.zero_()
                layer.weight[middle] = value
            head = model.network.head
            head.weight.zero_()
            steps = torch.arange(classes) / (classes - 1)
            head.weight[:classes].view(-1).copy_(200 * steps)  # the logit 200 (s x - s² / 2) is largest
            head.bias[:classes].copy_(-100 * steps**2)  # for the step s that is nearest to x
            if model.task == "instances":
                head.bias[classes] = -10  # no boundary anywhere
                head.weight[classes + 1], head.bias[classes + 1] = 200, -100
        return model

    return make
