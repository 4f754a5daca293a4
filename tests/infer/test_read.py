"""Files of each kind to images and labels, with what they say about themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from napari_unet.errors import ImageError
from napari_unet.infer import read, tiff
from napari_unet.infer.lazy import LazyArray
from napari_unet.infer.read import list_images, read_image, read_labels
from napari_unet.infer.tiff import complete_axes, micrometres

DATA = Path(os.environ.get("NAPARI_UNET_DATA", Path(__file__).parents[2] / "../shared/data"))
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real images in {DATA} (set NAPARI_UNET_DATA)")


def noise(*shape: int, dtype: str = "u2") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


# ---- TIFF


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lzw"},
        {"compression": "deflate", "predictor": True},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"tile": (16, 16), "compression": "zstd"},
        {"imagej": True},
        {"ome": True},
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_tiff_pixels(tmp_path: Path, options: dict[str, Any], dtype: str) -> None:
    array = noise(7, 40, 50, dtype=dtype)
    tifffile.imwrite(tmp_path / "a b.tif", array, **options, metadata={"axes": "ZYX"})
    image = read_image(str(tmp_path / "a b.tif"))
    assert (image.axes, image.name, image.scale, image.channel_names) == ("ZYX", "a b", {}, ())
    assert image.source == str(tmp_path / "a b.tif")
    assert image.data.dtype == dtype
    assert image.data.dtype.isnative
    np.testing.assert_array_equal(image.data, array)


def test_tiff_bool_and_tiny(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "bool.tif", noise(9, 9) > 100)
    tifffile.imwrite(tmp_path / "tiny.tif", noise(1, 1))
    assert read_image(tmp_path / "bool.tif").data.dtype == bool
    assert read_image(tmp_path / "tiny.tif").data.shape == (1, 1)


@pytest.mark.parametrize(
    ("shape", "said", "axes"),
    [
        ((3, 40, 50), None, "CYX"),
        ((3, 40, 50), "ZYX", "ZYX"),
        ((3, 40, 50), "TYX", "TYX"),
        ((9, 40, 50), "CYX", "CYX"),
        ((9, 2, 40, 50), "ZCYX", "ZCYX"),
        ((9, 2, 40, 50), None, "ZCYX"),
        ((2, 9, 40, 50), None, "CZYX"),
        ((2, 9, 3, 40, 50), "TZCYX", "TZCYX"),
        ((1, 2, 1, 40, 50), "TCZYX", "CYX"),
        ((1, 1, 40, 50), "ZCYX", "YX"),
        ((40, 50, 3), "YXC", "YXC"),
    ],
)
def test_tiff_axes(tmp_path: Path, shape: tuple[int, ...], said: str | None, axes: str) -> None:
    metadata = {"axes": said} if said else {}
    tifffile.imwrite(tmp_path / "a.tif", noise(*shape), photometric="minisblack", metadata=metadata)
    assert read_image(tmp_path / "a.tif").axes == axes


def test_tiff_colours(tmp_path: Path) -> None:
    rgb = noise(40, 50, 4, dtype="u1")
    tifffile.imwrite(tmp_path / "rgb.tif", rgb[..., :3], photometric="rgb")
    tifffile.imwrite(tmp_path / "rgba.tif", rgb, photometric="rgb", extrasamples=["unassalpha"])
    planes = np.moveaxis(rgb[..., :3], -1, 0)
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "jpeg.tif", rgb[..., :3], photometric="rgb", compression="jpeg", tile=(16, 16))
    for name in ("rgb", "rgba"):
        image = read_image(tmp_path / f"{name}.tif")
        assert image.axes == "YXS"
        np.testing.assert_array_equal(image.data, rgb[..., :3])
    assert read_image(tmp_path / "planes.tif").axes == "SYX"
    assert read_image(tmp_path / "jpeg.tif").data.shape == (40, 50, 3)


def test_ome_tiff(tmp_path: Path) -> None:
    metadata = {
        "axes": "TCZYX",
        "PhysicalSizeX": 250,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.25,
        "PhysicalSizeZ": 0.002,
        "PhysicalSizeZUnit": "mm",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(tmp_path / "cells.ome.tif", noise(1, 2, 5, 40, 50), ome=True, metadata=metadata)
    image = read_image(tmp_path / "cells.ome.tif")
    assert (image.axes, image.name, image.channel_names) == ("CZYX", "cells", ("DAPI", "GFP"))
    assert image.scale == pytest.approx({"Z": 2, "Y": 0.25, "X": 0.25})
    assert read_image(tmp_path / "cells.ome.tif").data.shape == (2, 5, 40, 50)


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf", "wide"])
def test_ome_sizes_that_cannot_be_true(tmp_path: Path, size: str) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(40, 50), ome=True, metadata={"PhysicalSizeX": 0.125})
    content = (tmp_path / "a.ome.tif").read_bytes()
    assert b'"0.125"' in content
    (tmp_path / "a.ome.tif").write_bytes(content.replace(b'"0.125"', f'"{size}"'.ljust(7).encode()))
    assert read_image(tmp_path / "a.ome.tif").scale == {}


def test_ome_metadata_that_is_no_xml(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(3, 40, 50), ome=True, metadata={"axes": "ZYX"})
    content = (tmp_path / "a.ome.tif").read_bytes()
    (tmp_path / "a.ome.tif").write_bytes(content.replace(b"<Pixels", b"<Pix<ls"))
    assert read_image(tmp_path / "a.ome.tif").data.shape == (3, 40, 50)


def test_pyramid_is_read_at_full_size(tmp_path: Path) -> None:
    array = noise(256, 200, dtype="u1")
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", bigtiff=True) as file:
        file.write(array, subifds=1, tile=(64, 64), compression="deflate", metadata={"PhysicalSizeX": 0.5})
        file.write(array[::2, ::2], subfiletype=1, tile=(64, 64), compression="deflate")
    image = read_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(image.data, array)
    assert image.scale == {"X": 0.5}


def test_imagej_tiff(tmp_path: Path) -> None:
    metadata = {"axes": "TZCYX", "spacing": 800, "unit": "nm"}
    array = noise(2, 4, 3, 40, 50)
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, resolution=(1 / 250, 1 / 200), metadata=metadata)
    image = read_image(tmp_path / "a.tif")
    assert (image.axes, image.channel_names) == ("TZCYX", ())
    assert image.scale == pytest.approx({"Z": 0.8, "Y": 0.2, "X": 0.25})
    metadata = {"axes": "CYX", "unit": "\\u00B5m", "Labels": ["DAPI", "GFP", "RFP"]}
    tifffile.imwrite(tmp_path / "b.tif", array[0, 0], imagej=True, resolution=(4, 4), metadata=metadata)
    image = read_image(tmp_path / "b.tif")
    assert (image.axes, image.channel_names) == ("CYX", ("DAPI", "GFP", "RFP"))
    assert image.scale == pytest.approx({"Y": 0.25, "X": 0.25})


@pytest.mark.parametrize(
    ("resolution", "unit", "metadata", "size"),
    [
        (10000, "centimeter", {}, 1.0),
        (50800, "inch", {}, 0.5),
        (72, "inch", {}, None),
        (300, "inch", {}, None),
        (28.346, "centimeter", {}, None),
        (1, "none", {}, None),
        (4, "none", {}, None),
        (4, "none", {"unit": "pixel"}, None),
        (4, "none", {"unit": "um"}, 0.25),
        (96, "none", {"unit": "inch"}, None),
    ],
)
def test_resolution_tags(tmp_path: Path, resolution: float, unit: str, metadata: Any, size: float | None) -> None:
    resolutions = {"resolution": (resolution, resolution), "resolutionunit": unit}
    tifffile.imwrite(tmp_path / "a.tif", noise(40, 50), **resolutions, metadata=metadata)
    expected = {} if size is None else pytest.approx({"Y": size, "X": size}, rel=1e-4)
    assert read_image(tmp_path / "a.tif").scale == expected


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_large_tiff_stays_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None) -> None:
    monkeypatch.setattr(tiff, "LAZY_ABOVE", 1000)
    array = noise(3, 64, 80, 3, dtype="u1")
    options: dict[str, Any] = {"compression": compression, "photometric": "rgb", "byteorder": ">"}
    tifffile.imwrite(tmp_path / "a.tif", array, **options, metadata={"axes": "ZYXS"})
    image = read_image(tmp_path / "a.tif")
    assert isinstance(image.data, LazyArray)
    assert (image.axes, image.data.shape) == ("ZYXS", array.shape)
    np.testing.assert_array_equal(image.data[1, 5:9, ..., 0], array[1, 5:9, ..., 0])
    np.testing.assert_array_equal(image.data, array)


def test_large_foreign_byte_order_stays_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "LAZY_ABOVE", 1000)
    monkeypatch.setattr(read, "LAZY_ABOVE", 1000)
    array = noise(64, 80)
    tifffile.imwrite(tmp_path / "a.tif", array.astype(">u2"), byteorder=">")
    np.save(tmp_path / "a.npy", array.astype(">u2"))
    for name in ("a.tif", "a.npy"):
        image = read_image(tmp_path / name)
        assert isinstance(image.data, LazyArray)
        assert image.data.dtype.isnative
        np.testing.assert_array_equal(image.data, array)


@pytest.mark.parametrize(
    ("axes", "shape", "result"),
    [
        ("IYX", (3, 40, 50), "CYX"),
        ("IYX", (30, 40, 50), "ZYX"),
        ("QQYX", (30, 2, 40, 50), "ZCYX"),
        ("TQYX", (30, 20, 40, 50), "TZYX"),
        ("QCYX", (30, 20, 40, 50), "ZCYX"),
        ("IYXS", (30, 40, 50, 3), "ZYXS"),
        ("ISYX", (30, 3, 40, 50), "ZSYX"),
        ("PRAEYX", (2, 2, 2, 2, 40, 50), "ZTC?YX"),
    ],
)
def test_complete_axes(axes: str, shape: tuple[int, ...], result: str) -> None:
    assert complete_axes(axes, shape, np.dtype("u2")) == result


def test_units() -> None:
    for one in ("µm", "um", "μm", "\\u00B5m", "micron", "microns", "micrometre", "Micrometer", " µm "):
        assert micrometres(one) == 1
    assert [micrometres(unit) for unit in ("nm", "mm", "inch", "inches", "m", "Å")] == [
        1e-3,
        1e3,
        25400,
        25400,
        1e6,
        1e-4,
    ]
    assert [micrometres(unit) for unit in ("pixel", "", None, 3, "reference frame")] == [None] * 5


# ---- PNG, JPEG, BMP, NPY


def test_png(tmp_path: Path) -> None:
    rgb16 = noise(40, 50, 3) * 250
    (tmp_path / "rgb16.png").write_bytes(imagecodecs.png_encode(rgb16))
    (tmp_path / "grey16.png").write_bytes(imagecodecs.png_encode(rgb16[..., 0].copy()))
    np.testing.assert_array_equal(read_image(tmp_path / "rgb16.png").data, rgb16)
    np.testing.assert_array_equal(read_image(tmp_path / "grey16.png").data, rgb16[..., 0])
    rgba = Pillow.fromarray(noise(40, 50, 4, dtype="u1"))
    palette = rgba.convert("RGB").quantize(7)
    palette.save(tmp_path / "palette.png", transparency=0)
    rgba.save(tmp_path / "rgba.png")
    rgba.convert("LA").save(tmp_path / "la.png")
    rgba.crop((0, 0, 2, 1)).save(tmp_path / "tiny.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png").data, palette.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png").data, np.asarray(rgba)[..., :3])
    np.testing.assert_array_equal(read_image(tmp_path / "la.png").data, np.asarray(rgba.convert("L")))
    assert [read_image(tmp_path / f"{name}.png").axes for name in ("rgb16", "la", "tiny")] == [
        "YXS",
        "YX",
        "YXS",
    ]


def test_jpeg_and_bmp(tmp_path: Path) -> None:
    flat = np.full((40, 50, 3), (200, 100, 50), np.uint8)
    Pillow.fromarray(flat).save(tmp_path / "a.JPG")
    Pillow.fromarray(flat).convert("CMYK").save(tmp_path / "b.jpeg")
    Pillow.fromarray(flat).save(tmp_path / "c.bmp")
    for name in ("a.JPG", "b.jpeg", "c.bmp"):
        image = read_image(tmp_path / name)
        assert image.axes == "YXS"
        np.testing.assert_allclose(image.data, flat.astype(float), atol=4)
    Pillow.fromarray(flat[..., 0]).save(tmp_path / "grey.jpg")
    assert read_image(tmp_path / "grey.jpg").axes == "YX"


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise(30, 2, 40, 50).astype(">f8"))
    image = read_image(tmp_path / "a.npy")
    assert image.axes == "ZCYX"
    assert image.data.dtype == np.float64
    assert image.data.dtype.isnative


# ---- napari readers


def test_napari_reader(tmp_path: Path) -> None:
    pytest.importorskip("napari")
    rgb = noise(40, 50, 3, dtype="u1")
    Pillow.fromarray(rgb).save(tmp_path / "a.webp", lossless=True)
    image = read_image(tmp_path / "a.webp")
    assert image.axes == "YXS"
    np.testing.assert_array_equal(image.data, rgb)


@pytest.mark.parametrize(
    ("layers", "axes", "scale"),
    [
        ([(noise(40, 50),)], "YX", {}),
        ([(noise(9, 40, 50), {"scale": (2, 0.5, 0.5), "units": "µm"})], "ZYX", {"Z": 2, "Y": 0.5, "X": 0.5}),
        ([(noise(9, 40, 50), {"scale": (2, 500, 500), "units": ("s", "nm", "nm"), "axis_labels": "tyx"})],
         "TYX", {"Y": 0.5, "X": 0.5}),
        ([(noise(9, 40, 50), {"scale": (2, 0.5, 0.5)}, "image")], "ZYX", {}),
        ([(noise(9, 40, 50, 3), {"channel_axis": 3}, "image")], "ZYXC", {}),
        ([(noise(3, 2, 40, 50), {"channel_axis": 1}, "image")], "ZCYX", {}),
        ([([noise(40, 50, 3, dtype="u1"), noise(20, 25, 3, dtype="u1")], {"rgb": True}, "image")], "YXS", {}),
        ([(noise(40, 50), {}, "image")] * 2 + [(noise(40, 50), {}, "labels")], "CYX", {}),
    ],
)  # fmt: skip
def test_what_napari_readers_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: Any, axes: str, scale: dict[str, float]
) -> None:
    use_reader(monkeypatch, lambda *_, **__: layers)
    (tmp_path / "a.xyz").touch()
    image = read_image(tmp_path / "a.xyz")
    assert (image.axes, image.scale) == (axes, pytest.approx(scale))


def use_reader(monkeypatch: pytest.MonkeyPatch, function: Any) -> None:
    npe2 = pytest.importorskip("npe2")
    monkeypatch.setattr(npe2, "read", function)
    monkeypatch.setattr(npe2.PluginManager, "iter_compatible_readers", lambda *_: [1])


def test_napari_reader_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise NameError("a bug")

    (tmp_path / "a.xyz").touch()
    use_reader(monkeypatch, fails)
    with pytest.raises(ImageError, match="napari reader"):
        read_image(tmp_path / "a.xyz")
    for nothing in ([(None,)], [], [(noise(3, 2), {}, "points")]):
        use_reader(monkeypatch, lambda *_, nothing=nothing, **__: nothing)
        with pytest.raises(ImageError, match="no image layer"):
            read_image(tmp_path / "a.xyz")


def test_labels_layer_of_a_napari_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.xyz").touch()
    use_reader(monkeypatch, lambda *_, **__: [(noise(9, 9), {}, "image"), (noise(9, 9) + 5, {}, "labels")])
    np.testing.assert_array_equal(read_labels(tmp_path / "a.xyz"), noise(9, 9) + 5)


# ---- what cannot be read


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.png", "a.jpg", "a.npy"])
@pytest.mark.parametrize("part", [0, 3, 60, 0.5])
def test_truncated(tmp_path: Path, name: str, part: float) -> None:
    path = tmp_path / name
    array = noise(64, 64, dtype="u1")
    if name == "a.npy":
        np.save(path, array)
    elif name.endswith("tif"):
        tifffile.imwrite(path, array, compression="deflate", ome="ome" in name)
    else:
        Pillow.fromarray(array).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: part if isinstance(part, int) else int(part * len(content))])
    with pytest.raises(ImageError, match="could not be read"):
        read_image(path)


def test_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("hello")
    (tmp_path / "text.tif").write_text("hello")
    np.save(tmp_path / "object.npy", np.array([[None]]), allow_pickle=True)
    np.save(tmp_path / "complex.npy", np.zeros((3, 3), complex))
    np.save(tmp_path / "empty.npy", np.zeros((0, 3)))
    tifffile.imwrite(tmp_path / "complex.tif", np.zeros((3, 3), "c8"))
    for name, said in {
        "missing.tif": "does not exist",
        ".": "is a folder",
        "a.xyz": "suffix '.xyz'",
        "text.tif": "could not be read",
        "object.npy": "could not be read",
        "complex.npy": "complex.npy has pixels of type complex128",
        "empty.npy": r"shape \(0, 3\)",
        "complex.tif": "complex64",
    }.items():
        with pytest.raises(ImageError, match=said) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


# ---- labels


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", "i8"])
def test_labels_are_kept_exactly(tmp_path: Path, dtype: str) -> None:
    labels = noise(40, 50).astype(dtype)
    labels[0, 0] = min(np.iinfo(dtype).max, 2**32 - 1)
    tifffile.imwrite(tmp_path / "a.tif", labels, compression="zlib")
    np.save(tmp_path / "a.npy", labels)
    for name in ("a.tif", "a.npy"):
        found = read_labels(tmp_path / name)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, labels)


def test_labels_of_other_kinds(tmp_path: Path) -> None:
    labels = noise(40, 50, dtype="f4")
    tifffile.imwrite(tmp_path / "float.tif", labels)
    np.save(tmp_path / "bool.npy", labels > 100)
    palette = Pillow.fromarray(noise(40, 50, 3, dtype="u1")).quantize(200)
    palette.save(tmp_path / "palette.png")
    (tmp_path / "grey16.png").write_bytes(imagecodecs.png_encode(noise(40, 50) * 250))
    assert read_labels(tmp_path / "float.tif").dtype == np.uint32
    np.testing.assert_array_equal(read_labels(tmp_path / "float.tif"), labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "bool.npy"), labels > 100)
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png"), np.asarray(palette))
    np.testing.assert_array_equal(read_labels(tmp_path / "grey16.png"), noise(40, 50) * 250)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (noise(40, 50, 3, dtype="u1"), "is in colours"),
        (noise(40, 50) + 0.5, "broken numbers"),
        (np.full((4, 4), np.nan), "broken numbers"),
        (np.full((4, 4), -1), "numbers from -1"),
        (np.full((4, 4), 2**40), "up to 4294967295"),
    ],
)
def test_labels_refused(tmp_path: Path, labels: np.ndarray, said: str) -> None:
    np.save(tmp_path / "a.npy", labels)
    with pytest.raises(ImageError, match=said):
        read_labels(tmp_path / "a.npy")


# ---- folders


def test_list_images(tmp_path: Path) -> None:
    for name in ("img10.tif", "img2.TIF", "a.png", "index.csv", "._a.png", ".hidden.tif", "cells.czi"):
        (tmp_path / name).touch()
    (tmp_path / "b.ome.zarr").mkdir()
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "empty").mkdir()
    names = ["a.png", "b.ome.zarr", "cells.czi", "img2.TIF", "img10.tif"]
    assert [path.name for path in list_images(tmp_path)] == names
    assert list_images(tmp_path / "a.png") == [tmp_path / "a.png"]
    assert list_images(str(tmp_path / "b.ome.zarr")) == [tmp_path / "b.ome.zarr"]
    with pytest.raises(ImageError, match="holds no images"):
        list_images(tmp_path / "empty")
    with pytest.raises(ImageError, match="does not exist"):
        list_images(tmp_path / "missing")


# ---- real images


@real
@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("human_cyx", "CYX"),
        ("mitocheck_tyx", "TYX"),
        ("golgi_tyx", "TYX"),
        ("mitotic_plate_zyx", "ZYX"),
        ("spots_czyx", "ZCYX"),
        ("nuclei_tubulin_cyx", "CYX"),
    ],
)
def test_real_axes(name: str, axes: str) -> None:
    image = read_image(DATA / "unlabelled" / f"{name}.tif")
    assert (image.axes, image.name, image.scale) == (axes, name, {})
    assert image.data.ndim == len(axes)


@real
@pytest.mark.parametrize("folder", ["axons", "embryo_nuclei_3d", "neurons_3d", "nuclei/val", "ovule_3d", "phase_cells"])
def test_real_images_and_masks(folder: str) -> None:
    for path in list_images(DATA / folder / "images")[:8]:
        image = read_image(path)
        labels = read_labels(DATA / folder / "masks" / path.name)
        assert image.axes in ("YX", "YXS", "ZYX")
        assert image.data.shape[: labels.ndim] == labels.shape
        assert labels.dtype.kind == "u"
