"""Pixels of JPEG and PNG files, for reference.py: by Pillow, and by the specification of PNG where Pillow
does not give what is stored (16 bits, transparent colours).

  pixels.py FOLDER   compares both ways on every good PNG of a folder
"""
import io
import pathlib
import struct
import sys
import zlib

import numpy as np
from PIL import Image


def unfiltered(lines, step):
    """Rows of bytes of one pass, `step` bytes per pixel, by the PNG specification."""
    before = [0] * (len(lines[0]) - 1)
    for method, *line in lines:
        for i, up in enumerate(before):
            left, corner = (line[i - step], before[i - step]) if i >= step else (0, 0)
            paeth = min((left, up, corner), key=lambda v: abs(left + up - corner - v))
            line[i] = (line[i] + (0, left, up, (left + up) // 2, paeth)[method]) % 256
        yield line
        before = line


def stored_samples(data):
    """[height, width, samples] as stored, and the other chunks by their names."""
    width, height, depth, color, _, _, laced = struct.unpack(">IIBBBBB", data[16:29])
    count = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    at, packed, chunks = 8, b"", {}
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        chunks[kind] = data[at + 8:at + 8 + size]
        packed += chunks[kind] if kind == b"IDAT" else b""
        at += size + 12
    packed, pixels = zlib.decompress(packed), np.zeros((height, width, count), np.int64)
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                         (1, 0, 2, 2), (0, 1, 1, 2)) if laced else ((0, 0, 1, 1),):
        h, w, _ = pixels[y::dy, x::dx].shape
        if h and w:
            stride = 1 + (w * count * depth + 7) // 8
            lines = np.frombuffer(packed[:h * stride], np.uint8).reshape(h, stride).tolist()
            packed = packed[h * stride:]
            rows = np.array(list(unfiltered(lines, max(1, count * depth // 8))), np.uint8)
            bits = np.unpackbits(rows, axis=1)[:, :w * count * depth].reshape(h, w, count, depth)
            pixels[y::dy, x::dx] = bits @ (1 << np.arange(depth)[::-1])
    return pixels, depth, color, chunks


def decode_png(data, channels):
    """Stored values to 8 bits, over black, to 1 or 3 channels, as about.image says it."""
    pixels, depth, color, chunks = stored_samples(data)
    alpha, clear = np.array(255), chunks.get(b"tRNS", b"")
    if color == 3:
        table = np.frombuffer(clear.ljust(256, b"\xff"), np.uint8).astype(np.int64)
        alpha = table[pixels]
        colors = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3).astype(np.int64)
        pixels = colors[pixels[..., 0]]
    elif clear and color in (0, 2):
        key = np.frombuffer(clear, ">u2") & ((1 << depth) - 1)
        alpha = np.where((pixels == key).all(-1, keepdims=True), 0, 255)
    if color != 3:
        pixels = pixels >> 8 if depth == 16 else pixels * 255 // ((1 << depth) - 1)
    if color in (4, 6):
        pixels, alpha = pixels[..., :-1], pixels[..., -1:]
    pixels = (pixels * alpha + 127) // 255
    if channels == 1 and pixels.shape[-1] == 3:
        pixels = (pixels @ np.array([[19595], [38470], [7471]]) + 32768) >> 16
    return np.broadcast_to(pixels, (*pixels.shape[:2], channels)).astype(np.uint8)


def pixels_of(data, channels):
    """8 bits, over black, to 1 or 3 channels, as about.image says it."""
    image = Image.open(io.BytesIO(data))
    if image.format == "JPEG":
        if channels == 1:
            image.draft("L", None)  # Y as it is, not Y to RGB to grey
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        return pixels.reshape(*pixels.shape[:2], channels)
    depth, color = data[24:26]
    if depth == 16 or (color != 3 and "transparency" in image.info):
        return decode_png(data, channels)
    pixels = np.asarray(image.convert("RGBA")).astype(np.int64)
    pixels = (pixels[..., :3] * pixels[..., 3:] + 127) // 255
    grey = (pixels @ [[19595], [38470], [7471]] + 32768) >> 16
    return (pixels if channels == 3 else grey).astype(np.uint8)


def resized(pixels, height, width):
    """Bilinear: pixel centres at i + 0.5, edges repeated, rounded half up."""
    for axis, to in ((1, width), (0, height)):
        size = pixels.shape[axis]
        at = (np.arange(to) + 0.5) * size / to - 0.5
        low = np.floor(at).astype(int)
        weight = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        first, second = (np.take(pixels, np.clip(k, 0, size - 1), axis) for k in (low, low + 1))
        pixels = first * (1 - weight) + second * weight
    return np.floor(pixels + 0.5).astype(np.uint8)


def main(folder):
    compared = 0
    for path in sorted(pathlib.Path(folder).glob("[!x]*.png")):  # x: damaged ones of PngSuite
        for channels in (1, 3):
            ours = decode_png(path.read_bytes(), channels)
            theirs = pixels_of(path.read_bytes(), channels)
            assert np.array_equal(ours, theirs), (path, channels)
            compared += 1
    assert compared > 0, f"no pictures in {folder}"
    print(f"{compared} pictures alike")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
