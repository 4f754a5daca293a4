"""8 bits are used where the labels stay the same, tried once for each model, and never on a guess."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_unet import Model, sample_data
from napari_unet.infer import engine, int8
from napari_unet.infer.seen import see
from napari_unet.jobs import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(int8, "_path", lambda model: tmp_path / "int8" / f"{model.version}.json")
    monkeypatch.setattr(int8, "SIDE", {2: 256})
    monkeypatch.setattr(int8, "TILES", 2)
    return tmp_path / "int8"


@pytest.fixture
def model() -> Model:
    return Model.load("nuclei")


def consider(model: Model, image: np.ndarray, device: str = "cpu") -> None:
    run(int8.consider(model, see(model, image), 1.0, device))


def kind(model: Model) -> str:
    found = engine.engine_for(model.network, "cpu")
    made = engine._made[model.network]
    return next(key for key, each in made.items() if each is found)


def test_a_small_image_is_not_worth_it(cache: Path, model: Model) -> None:
    consider(model, sample_data.load("nuclei").image)
    assert kind(model) == "openvino"
    assert not cache.exists()


def test_what_was_found_out_is_used_and_kept(cache: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    image = sample_data.load("nuclei").image
    monkeypatch.setattr(int8, "WORTH", {2: 1})
    consider(model, image)
    assert kind(model) == "openvino int8"
    (file,) = cache.iterdir()
    limits = json.loads(file.read_text())
    coarse = {f"down.{level}.{i}" for level in (2, 3, 4) for i in (0, 3)}
    assert set(limits) == coarse | {f"up.{level}.{i}" for level in (0, 1) for i in (0, 3)}
    assert all(low <= 0 < high for low, high in limits.values())
    labels = model.segment(image, device="cpu")
    again = Model.load("nuclei")
    monkeypatch.setattr(int8, "calibrate", lambda *_: pytest.fail("it is known"))
    consider(again, image)
    assert kind(again) == "openvino int8"
    monkeypatch.setattr(int8, "WORTH", {2: image.size + 1})
    in_16_bits = again.segment(image, device="cpu")
    assert kind(again) == "openvino", "what a small image becomes does not depend on large ones before"
    assert int8._agreement(model, [in_16_bits], [labels]) >= 0.95


def test_other_labels_refuse_it_for_good(cache: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "WORTH", {2: 1})
    monkeypatch.setattr(int8, "_agreement", lambda *_: 0.98)
    consider(model, sample_data.load("nuclei").image)
    assert kind(model) == "openvino"
    assert [json.loads(file.read_text()) for file in cache.iterdir()] == [{}]


def test_few_objects_decide_nothing(cache: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "WORTH", {2: 1})
    consider(model, np.random.default_rng(0).random((300, 300), np.float32))
    assert model.network not in int8._known
    assert not cache.exists()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"nowhere.0": [0, 1]}', '{"down.2.0": [1, 0]}', '{"down.2.0": [0, NaN]}', '{"down.2.0": 3}']
)
def test_a_file_that_is_damaged_is_found_out_anew(
    cache: Path, model: Model, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    cache.mkdir()
    (cache / f"{model.version}.json").write_text(text)
    assert int8._read(cache / f"{model.version}.json", model.network) is None


def test_agreement_counts_what_is_missing_and_what_is_too_much(model: Model) -> None:
    truth = np.zeros((20, 20), np.uint32)
    truth[2:8, 2:8], truth[12:18, 12:18] = 1, 2
    one = np.where(truth == 1, 7, 0)
    assert int8._agreement(model, [truth], [truth]) == 1
    assert int8._agreement(model, [truth, truth], [truth, one]) == 0.75
    assert int8._agreement(model, [one], [truth]) == 0.5
