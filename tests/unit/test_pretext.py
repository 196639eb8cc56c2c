"""The sheet of what a task asks and answers."""

import io

import numpy as np
from PIL import Image

from medssl.formats.raster import png
from medssl.train.pretext import GAP, LARGEST, sheet


def test_tiles_lie_in_rows_with_white_between():
    tiles = np.random.default_rng(0).random((3, 2, 1, 5, 7)).astype(np.float32)
    found = sheet(tiles)
    assert found.shape == (3 * 5 + 2 * GAP, 2 * 7 + GAP, 3)
    for row in range(3):
        for column in range(2):
            top, left = row * (5 + GAP), column * (7 + GAP)
            part = found[top : top + 5, left : left + 7]
            wanted = np.rint(255 * tiles[row, column, 0])
            for channel in range(3):
                np.testing.assert_array_equal(part[..., channel], wanted)
    assert (found[5 : 5 + GAP] == 255).all()
    assert (found[:, 7 : 7 + GAP] == 255).all()


def test_colours_stay_and_volumes_show_their_middle():
    tiles = np.zeros((1, 1, 3, 4, 6), np.float32)
    tiles[0, 0, 2] = 1.0
    assert sheet(tiles)[2, 3].tolist() == [0, 0, 255]
    volume = np.zeros((1, 1, 1, 6, 4, 5), np.float32)
    volume[0, 0, 0, 3] = 0.5
    assert (sheet(volume) == 128).all()


def test_large_pictures_are_thinned():
    assert max(sheet(np.zeros((1, 1, 1, 300, 200), np.float32)).shape) <= LARGEST


def test_png_holds_the_picture_and_nothing_else():
    picture = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    read = Image.open(io.BytesIO(png(picture)))
    np.testing.assert_array_equal(np.asarray(read), picture)
    assert not read.info
