"""Reading image files: modes, sizes, orientation, transparency."""

import numpy as np
import pytest

PIL = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from fastconv.tools import images  # noqa: E402

PIXELS = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 10


def written(path, image, **options):
    image.save(path, **options)
    return path


def test_grey_and_colour(tmp_path):
    grey = written(tmp_path / "grey.png", PIL.fromarray(PIXELS))
    np.testing.assert_allclose(images.read(grey), PIXELS[None] / 255, rtol=1e-6)
    assert images.read(grey).dtype == np.float32
    colours = images.read(grey, 3)
    assert colours.shape == (3, 6, 4)
    np.testing.assert_array_equal(colours[1], colours[0])
    rgb = np.stack([PIXELS, PIXELS // 2, PIXELS * 0], -1)
    colour = written(tmp_path / "colour.png", PIL.fromarray(rgb))
    np.testing.assert_allclose(images.read(colour), rgb.transpose(2, 0, 1) / 255, rtol=1e-6)
    assert images.read(colour, 1).shape == (1, 6, 4)


def test_sixteen_bits_are_scaled(tmp_path):
    path = written(tmp_path / "deep.png", PIL.fromarray(PIXELS.astype(np.uint16) * 257))
    np.testing.assert_allclose(images.read(path), PIXELS[None] / 255, rtol=1e-6)


def test_transparent_pixels_are_white(tmp_path):
    rgba = np.zeros((6, 4, 4), np.uint8)
    rgba[2, 1] = 0, 0, 0, 255
    y = images.read(written(tmp_path / "ink.png", PIL.fromarray(rgba)), 1)
    assert y[0, 2, 1] == 0
    assert (y == 1).sum() == 23


def test_photographs_are_turned_as_the_camera_noted(tmp_path):
    image = PIL.fromarray(PIXELS)
    exif = PIL.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    y = images.read(written(tmp_path / "turned.png", image, exif=exif))
    np.testing.assert_allclose(y[0], np.rot90(PIXELS, -1) / 255, rtol=1e-6)


def test_the_middle_square_is_cut_out_and_scaled(tmp_path):
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 9:21] = 255
    path = written(tmp_path / "wide.png", PIL.fromarray(wide))
    y = images.read(path, side=5)
    assert y.shape == (1, 5, 5)
    assert y.min() > 0.9


def test_only_images_are_listed(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    assert [f.name for f in images.listed(tmp_path)] == ["a.jpg", "b.PNG"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tiff", "webp"])
def test_a_file_cut_short_is_refused_by_name(tmp_path, suffix):
    noise = PIL.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8))
    path = written(tmp_path / f"image.{suffix}", noise)
    images.read(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"images: .*image.{suffix} cannot be read \(.*\): replace it by"):
        images.read(path)
