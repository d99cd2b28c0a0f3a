import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from iamg.pictures import open_picture, resolve_inside, thumbnail


@pytest.fixture
def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def pixel(image, x=0, y=0):
    assert image.mode == "RGB"
    return image.getpixel((x, y))


def test_rgb_png_comes_back_unchanged(tmp_path, noise):
    noise.save(tmp_path / "a.png")
    assert np.array_equal(open_picture(tmp_path / "a.png"), noise)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_becomes_white(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "PA" else "a.png")
    layer = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    layer.paste((200, 200, 200, 255), (0, 0, 4, 8))
    if mode == "PA":
        layer.quantize(8).save(tmp_path / "a.png")
        path = tmp_path / "a.png"
    else:
        layer.convert(mode).save(path)
    picture = open_picture(path)
    assert pixel(picture, 7, 7) == (255, 255, 255)
    assert pixel(picture, 0, 0) == (200, 200, 200)


def test_palette_with_a_transparent_entry_becomes_white(tmp_path):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 250, 10, 10])
    image.putpixel((0, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    picture = open_picture(tmp_path / "a.png")
    assert pixel(picture, 0, 0) == (250, 10, 10)
    assert pixel(picture, 3, 3) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    grey = np.full((4, 4), 128 * 257, dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert pixel(open_picture(tmp_path / "a.png")) == (128, 128, 128)


def test_cmyk_jpeg_keeps_its_colour(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = pixel(open_picture(tmp_path / "a.jpg"), 8, 8)
    assert red > 230 and green < 30 and blue < 30


def test_exif_orientation_turns_the_picture(tmp_path):
    image = Image.new("RGB", (20, 10), "black")
    exif = image.getexif()
    exif[0x0112] = 6  # shown after a quarter turn
    image.save(tmp_path / "a.jpg", exif=exif)
    assert open_picture(tmp_path / "a.jpg").size == (10, 20)


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_animation_gives_its_first_frame(tmp_path, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
    assert pixel(open_picture(tmp_path / name)) == (255, 0, 0)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp", "a.tif"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.9])
@pytest.mark.parametrize("lenient", [False, True])
def test_truncated_file_is_refused_by_name(tmp_path, noise, monkeypatch, name, part, lenient):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    noise.save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError, match=name):
        open_picture(tmp_path / name)
    assert lenient == ImageFile.LOAD_TRUNCATED_IMAGES


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("side", [10_001, 60_000])
def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch, side):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(ValueError, match="bomb.png.*megapixels"):
        open_picture(tmp_path / "bomb.png")


def test_other_formats_are_refused(tmp_path, noise):
    noise.save(tmp_path / "a.ppm")
    (tmp_path / "b.png").write_text("<html>not found</html>")
    (tmp_path / "c.jpg").write_bytes((tmp_path / "a.ppm").read_bytes())
    for name in ("a.ppm", "b.png", "c.jpg", "missing.png"):
        with pytest.raises(ValueError, match=name):
            open_picture(tmp_path / name)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="floating-point"):
        open_picture(tmp_path / "a.tif")


def test_thumbnail_keeps_the_shape_and_never_enlarges(noise):
    assert thumbnail(noise, 30).size == (30, 20)
    assert thumbnail(noise, 256).size == (60, 40)
    assert noise.size == (60, 40)


@pytest.mark.parametrize(
    "relative",
    ["../a.png", "sub/../../a.png", "/etc/passwd", "C:\\a.png", "C:a.png", "..\\a.png", "\\\\host\\a.png", "", "a\0b"],
)
def test_paths_out_of_the_folder_are_refused(tmp_path, relative):
    with pytest.raises(ValueError, match="leads out"):
        resolve_inside(tmp_path, relative)


def test_symlink_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "root" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="leads out"):
        resolve_inside(tmp_path / "root", "link.png")


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    with pytest.raises(ValueError, match="a.png.*leads out"):
        resolve_inside(tmp_path, "a.png")


def test_a_frame_larger_than_its_gif_is_a_bomb_too(tmp_path):
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 11_000, 11_000, 0) + b"\x02\x02\x44\x01\x00\x3b"
    (tmp_path / "bomb.gif").write_bytes(screen + frame)
    with pytest.raises(ValueError, match="bomb.gif.*megapixels|bomb.gif.*exceeds limit"):
        open_picture(tmp_path / "bomb.gif")


def test_paths_inside_the_folder_resolve(tmp_path):
    assert resolve_inside(tmp_path, "a/b.png") == tmp_path / "a" / "b.png"
    assert resolve_inside(tmp_path, "a\\b.png") == tmp_path / "a" / "b.png"
