"""Folders of small PNG pictures, the same bytes in every run."""
import struct
import zlib

CLASSES, PICTURES = ("cat", "dog", "ship"), 9


def png(side, seed):
    """A picture of three channels; every class and number gives another."""
    rows = b"".join(b"\0" + bytes((seed * 37 + y * 5 + x * (1 + seed % 3)) % 256
                                  for x in range(3 * side)) for y in range(side))

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) +
            chunk(b"IEND", b""))


def make_pictures(folder, splits, side):
    for s, split in enumerate(splits):
        for c, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for k in range(PICTURES):
                (folder / split / name / f"{k}.png").write_bytes(png(side, c + 3 * k + 100 * s))
