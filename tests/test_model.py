"""A model survives its file whole, and no file that is broken, foreign or hostile gets past the door."""

from __future__ import annotations

import json
import os
import pickle  # noqa: TID251  (to make files that must be refused)
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from napari_unet import DecodeSettings, Model, ModelFileError, Provenance, model, shipped
from napari_unet.nets.config import UNetConfig
from napari_unet.nets.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGE = np.random.default_rng(0).random((40, 33), np.float32)


def small(**how: Any) -> Model:
    made = Model.new(**{"width": 4, "depth": 1, "seed": 5, **how})
    with torch.no_grad():
        made.network.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    return made


def parts(file: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the header and the weights of a file of ours."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["napari_unet"])
        return header, {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118


def written(file: Path, header: Any, weights: dict[str, torch.Tensor]) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    file.write_bytes(save(weights, metadata={"napari_unet": text}))
    return file


def refused(file: Path, said: str | None = None) -> None:
    """Loading is refused with one sentence that names the file."""
    with pytest.raises(ModelFileError, match=said) as caught:
        Model.load(file)
    text = str(caught.value)
    assert file.name in text or "The network's" in text or "The decode" in text or "smallest" in text
    assert "\n" not in text
    assert text.endswith(".")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small().save(tmp_path_factory.mktemp("model") / "mine.unet")


# There and back


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"ndim": 1},
        {"ndim": 3, "depth": 1},
        {"channels": "rgb"},
        {"task": "classes", "classes": ("background", "a", "b", "ü/漢")},
        {"depth": 0},
        {"max_width": 5, "depth": 2},
    ],
)
def test_what_is_saved_is_loaded(how: dict[str, Any], tmp_path: Path) -> None:
    origin = Provenance.now(data=("mine",), notices=("free",), recipe={"steps": 3}, parent="0123456789ab")
    before = replace(
        small(**how),
        name="a name",
        normalisation=(2.0, 99.0),
        diameter=23.5,
        pixel_size=0.325,
        decode=DecodeSettings(foreground=0.4, seed=0.3, boundary=0.7, middle=0.2, min_size=3),
        provenance=origin,
    )
    after = Model.load(before.save(tmp_path / "it.unet"))
    for key in [field.name for field in fields(Model) if field.name != "network"] + ["config", "ndim", "version"]:
        assert getattr(after, key) == getattr(before, key), key
    assert not after.network.training
    x = torch.rand(1, before.config.in_channels, *[9] * before.ndim)
    with torch.no_grad():
        assert torch.equal(before.network(x), after.network(x))


def test_a_base_and_what_images_look_like_are_kept(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    looks = [random.random((n, 9, small().config.features)).astype(np.float16).astype(np.float32) for n in (3, 2)]
    base = replace(small(seed=1), name="base", diameter=30.0, decode=DecodeSettings(seed=0.3), familiar=looks[0])
    before = replace(small(), name="tuned", base=base, familiar=looks[1])
    after = Model.load(before.save(tmp_path / "it.unet", half=True))
    assert after.base is not None
    for one, other in ((after, before), (after.base, base)):
        assert (one.name, one.diameter, one.decode) == (other.name, other.diameter, other.decode)
        np.testing.assert_array_equal(one.familiar, other.familiar)
    assert after.base.base is None
    assert after.version != after.base.version
    assert Model.load(base.save(tmp_path / "base.unet", half=True)).version == after.base.version


@pytest.mark.parametrize("other", [{"channels": "rgb"}, {"width": 3}, {"classes": ("background", "a", "b")}])
def test_a_base_of_another_kind_is_refused(other: dict[str, Any], tmp_path: Path) -> None:
    refused(replace(small(), base=small(**other)).save(tmp_path / "it.unet"), "contradicts itself")


@pytest.mark.parametrize("shape", [(0, 9, 8), (30, 0, 8), (9, 8), (30, 9, 7), (20_000, 9, 8)])
def test_looks_of_images_that_cannot_be_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    refused(replace(small(), familiar=np.zeros(shape, np.float32)).save(tmp_path / "it.unet"))


def test_half_the_size_and_nearly_the_same_maps(tmp_path: Path) -> None:
    whole, half = small().save(tmp_path / "whole.unet"), small().save(tmp_path / "half.unet", half=True)
    assert half.stat().st_size < 0.75 * whole.stat().st_size  # the rest is the header
    after = Model.load(half)
    assert all(weight.dtype == torch.float32 for weight in after.network.parameters())
    maps = small().predict(IMAGE, device="cpu")
    assert np.abs(after.predict(IMAGE, device="cpu") - maps).max() < 0.02
    assert Model.load(after.save(tmp_path / "again.unet", half=True)).version == after.version


def test_at_a_prompt_a_model_is_one_line() -> None:
    text = repr(replace(Model.new(width=4, depth=1, name="mine"), diameter=19.9))
    assert text.startswith("Model('mine': background, object; 2-D, grey, objects about 20 px wide; ")
    assert "\n" not in text


def test_the_version_is_that_of_the_weights() -> None:
    one = small()
    assert len(one.version) == 12
    assert int(one.version, 16)
    assert small().version == replace(one, name="other").version == one.version
    assert small(seed=6).version != one.version


def test_a_new_model_is_the_same_for_the_same_seed() -> None:
    maps = [small(seed=seed).predict(IMAGE, device="cpu") for seed in (1, 1, 2)]
    assert (maps[0] == maps[1]).all()
    assert (maps[0] != maps[2]).any()


def test_a_new_head_on_the_same_body() -> None:
    origin = Provenance(data=("some",), notices=("a notice",))
    old = replace(small(), diameter=17.0, provenance=replace(origin, recipe={"steps": 3}))
    old = replace(old, familiar=np.zeros((1, 9, old.config.features), np.float32), base=old)
    new = old.with_classes(("background", "myelin", "axon"))
    assert new.base is new.familiar is None
    assert (new.task, new.classes, new.config.out_channels) == ("classes", ("background", "myelin", "axon"), 3)
    assert (new.diameter, new.provenance, new.normalisation) == (None, origin, old.normalisation)
    assert old.with_classes(("background", "cell"), "instances").diameter == old.diameter
    before, after = old.network.state_dict(), new.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in after if not key.startswith("head."))
    assert new.segment(IMAGE, device="cpu").dtype == np.uint8
    again = new.with_classes(("background", "cell"), "instances")
    assert again.config == old.config


@pytest.mark.parametrize(
    "how", [{"task": "semantic"}, {"channels": "RGB"}, {"ndim": 4}, {"classes": ("background",)}, {"width": 0}]
)
def test_what_no_model_can_be_made_of_is_refused(how: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError, match="expected"):
        Model.new(**how)


# Where from and where to


def test_the_shipped_models_load_by_name_and_say_what_they_learned_from() -> None:
    for name in shipped():
        assert Model.load(name).provenance.data


@pytest.mark.parametrize("name", ["no such model", "/nowhere/mine.unet", "", ".", "a\0b", None, 3, Path("a")])
def test_a_model_that_is_not_there_is_told(name: Any) -> None:
    with pytest.raises(ModelFileError, match="There is no model"):
        Model.load(name)


def test_a_shipped_name_and_a_path_in_the_home_are_understood(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "SHIPPED", file.parent)
    monkeypatch.setenv("HOME", str(file.parent))
    monkeypatch.setenv("USERPROFILE", str(file.parent))
    assert shipped() == ["mine"]
    assert Model.load("mine").version == Model.load("~/mine.unet").version == Model.load(file).version


def test_a_file_that_may_not_be_read_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(file), "open", refuse)
    refused(file, "Permission denied")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nowhere' does not exist: make it first"):
        small().save(tmp_path / "nowhere" / "it.unet")
    (tmp_path / "folder.unet").mkdir()
    with pytest.raises(ModelFileError, match=r"folder.unet' cannot be written \(.*choose another place"):
        small().save(tmp_path / "folder.unet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.unet"], "nothing half written is left"


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_is_cut_short_leaves_the_old_file(
    call: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = small().save(tmp_path / "it.unet")
    before = target.read_bytes()

    def crash(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, crash)
        with pytest.raises(ModelFileError if isinstance(error, OSError) else KeyboardInterrupt):
            small(seed=9).save(target)
    assert [p.name for p in tmp_path.iterdir()] == ["it.unet"]
    assert target.read_bytes() == before
    assert Model.load(target).version == small().version


@pytest.mark.parametrize("name", ["a.tif", "mine.unet.bak", "mine.v2"])
def test_a_name_of_another_kind_of_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("a picture", encoding="utf-8")
    with pytest.raises(ModelFileError, match=f"'{name}': choose a name that ends in .unet"):
        small().save(tmp_path / name)
    assert (tmp_path / name).read_text(encoding="utf-8") == "a picture"


@pytest.mark.parametrize("name", ["mine", "mine.UNET"])
def test_a_name_without_a_suffix_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    assert small().save(tmp_path / name) == tmp_path / name
    assert Model.load(tmp_path / name).version == small().version


# Broken and hostile files


def test_a_file_cut_off_anywhere_is_refused(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    for length in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(data) // 2, len(data) - 1):
        cut = tmp_path / "cut.unet"
        cut.write_bytes(data[:length])
        refused(cut, "not a whole model file")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_wrong_bytes_is_refused_or_sound(file: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(file.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for place in data.draw(st.lists(st.integers(0, header - 1), min_size=1, max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    wrong = tmp_path / "wrong.unet"
    wrong.write_bytes(content)
    try:
        loaded = Model.load(wrong)
    except ModelFileError as error:
        assert "\n" not in str(error).strip()  # noqa: PT017
    else:
        assert loaded.predict(IMAGE[:5, :5], device="cpu").shape[1:] == (5, 5)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\0" * 8,
        b"\0" * 5000,
        b"\xff" * 5000,
        (2).to_bytes(8, "little") + b"{}",
        (2**62).to_bytes(8, "little") + b"{}" + b" " * 100,
        (10**6 + 1).to_bytes(8, "little") + b" " * (10**6 + 10),
        (6).to_bytes(8, "little") + b"[1, 2]",
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        pickle.dumps({"weights": [1.0] * 50}),
        b"PK\x03\x04" + os.urandom(200),
        b"%PDF-1.7 " * 20,
        np.random.default_rng(0).bytes(3000),
    ],
)
def test_what_is_no_safetensors_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "strange.unet").write_bytes(content)
    refused(tmp_path / "strange.unet")


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["TRAP"],)


def test_a_pickled_model_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    torch.save({"state_dict": small().network.state_dict(), "trap": Trap()}, tmp_path / "a.unet")  # noqa: TID251
    (tmp_path / "b.unet").write_bytes(pickle.dumps(Trap()))
    for name in ("a.unet", "b.unet"):
        refused(tmp_path / name, "not a whole model file")
    assert not (tmp_path / "sprung").exists()


def test_the_weights_of_others_are_refused(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "foreign.unet")
    refused(tmp_path / "foreign.unet", "not a napari-unet model")
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "foreign.unet", metadata={"format": "pt"})
    refused(tmp_path / "foreign.unet", "not a napari-unet model")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "3",
        "[]",
        "{}",
        '"a"',
        '{"schema": 1}',
        '{"schema": "1"}',
        '{"schema": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"schema":' * 20_000,
    ],
)
def test_a_header_that_says_nothing_is_refused(text: str, tmp_path: Path) -> None:
    refused(written(tmp_path / "it.unet", text, {"a": torch.zeros(1)}), "header of 'it.unet' cannot be understood")


def test_a_file_of_a_newer_version_asks_for_an_update(file: Path, tmp_path: Path) -> None:
    header, weights = parts(file)
    header = {"schema": header["schema"] + 1, "config": "who knows"}
    refused(written(tmp_path / "it.unet", header, weights), "newer napari-unet .* update napari-unet-live")


def test_a_file_from_before_the_middle_was_kept_has_the_default(file: Path, tmp_path: Path) -> None:
    header, weights = parts(file)
    del header["decode"]["middle"]
    old = Model.load(written(tmp_path / "it.unet", {**header, "schema": 1}, weights))
    assert old.decode == Model.load(file).decode
    assert old.decode.middle == 0.4


def test_a_file_from_before_blocks_halved_their_channels_has_its_old_network(tmp_path: Path) -> None:
    network = UNet(UNetConfig(width=4, depth=2, halve=False)).eval()
    path = replace(Model.new(width=4, depth=2), network=network, smallest=9.0).save(tmp_path / "it.unet")
    header, weights = parts(path)
    for key in ("top", "halve"):
        del header["config"][key]
    del header["smallest"]
    old = Model.load(written(path, {**header, "schema": 2}, weights))
    assert old.version == Model(network).version
    assert old.smallest is None


def changes() -> Iterator[tuple[str, Any]]:
    for key in ("config", "decode", "provenance", "classes", "normalisation"):
        yield from ((key, value) for value in (None, 3, "text", [], [[]], 1e400))
    yield from (("normalisation", value) for value in ([1], [99, 1], [-1, 99], [float("nan"), 99], [1, 10**400]))
    yield from (("smallest", value) for value in (0, "big", float("nan")))
    yield from (("diameter", value) for value in (0, -3, "big", [1], float("nan"), 10**400, float("inf")))
    yield from (("pixel_size", value) for value in (0, "0.5 µm", {}))
    yield from (("task", value) for value in ("classes", "semantic", None, []))
    yield from (("channels", value) for value in ("rgb", "RGB", None, []))
    yield from (("classes", value) for value in (["background"], ["a", "b", "c"]))
    yield "decode", {"foreground": 2}
    yield "decode", {"middle": -1}
    yield "decode", {"min_size": -1}
    yield "decode", {"unknown": 1}
    yield "provenance", {"data": None, "notices": []}
    yield "config", {"ndim": 7}
    yield "config", {"depth": 10**400}
    yield "config", {"unknown": 1}


@pytest.mark.parametrize(("key", "value"), list(changes()))
def test_a_header_that_makes_no_sense_is_refused(key: str, value: Any, file: Path, tmp_path: Path) -> None:
    header, weights = parts(file)
    refused(written(tmp_path / "it.unet", {**header, key: value}, weights))
    del header[key]
    refused(written(tmp_path / "it.unet", header, weights))


def a_name(weights: dict[str, torch.Tensor]) -> None:
    weights["head.wait"] = weights.pop("head.weight")


def one_missing(weights: dict[str, torch.Tensor]) -> None:
    del weights["head.bias"]


def one_more(weights: dict[str, torch.Tensor]) -> None:
    weights["down.9"] = torch.zeros(1)


def a_shape(weights: dict[str, torch.Tensor]) -> None:
    weights["head.weight"] = weights["head.weight"][:, :-1].contiguous()


def an_axis(weights: dict[str, torch.Tensor]) -> None:
    weights["head.weight"] = weights["head.weight"][..., 0]


def a_dtype(weights: dict[str, torch.Tensor]) -> None:
    weights["head.weight"] = weights["head.weight"].int()


def a_float8(weights: dict[str, torch.Tensor]) -> None:
    weights["head.weight"] = weights["head.weight"].to(torch.float8_e4m3fn)


def a_nan(weights: dict[str, torch.Tensor]) -> None:
    weights["head.weight"][0] = float("nan")


def an_infinity(weights: dict[str, torch.Tensor]) -> None:
    weights["down.0.1.running_var"][0] = float("inf")


@pytest.mark.parametrize(
    "damage", [a_name, one_missing, one_more, a_shape, an_axis, a_dtype, a_float8, a_nan, an_infinity]
)
def test_weights_that_do_not_fit_are_refused(
    damage: Callable[[dict[str, torch.Tensor]], None], file: Path, tmp_path: Path
) -> None:
    header, weights = parts(file)
    damage(weights)
    refused(written(tmp_path / "it.unet", header, weights))


def test_an_absurd_architecture_is_refused_without_being_built(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, weights = parts(file)
    header["config"].update(ndim=3, depth=8, width=512, max_width=2048)
    absurd = UNetConfig(**header["config"])
    assert 27 * absurd.widths[-1] ** 2 * 4 > 4e8, "one convolution alone would take 400 MB"

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("memory was asked for")

    monkeypatch.setattr(torch.nn.init, "normal_", never)
    refused(written(tmp_path / "it.unet", header, weights), "do not fit its architecture")


def test_bfloat16_weights_are_read(file: Path, tmp_path: Path) -> None:
    header, weights = parts(file)
    weights = {key: value.bfloat16() for key, value in weights.items()}
    loaded = Model.load(written(tmp_path / "it.unet", header, weights))
    assert loaded.network.head.weight.dtype == torch.float32
