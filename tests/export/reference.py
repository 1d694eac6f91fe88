"""From raw rows to a bundle's answers by preprocess.json and model.onnx alone: no code of Cohort.

  reference.py BUNDLE   prints the largest differences from golden.jsonl; exit 1 where they are beyond
                        1e-5 on probabilities or 1e-4 of the largest on the other output

Needs numpy and onnxruntime; PyICU for texts that are not ASCII, Pillow for JPEG.
"""
import base64, io, json, math, re, struct, sys, zlib

import numpy as np
import onnxruntime

try:
    import icu
except ImportError:
    icu = None
# UAX 29 as ICU 72 has it, for printable ASCII: @ is a letter; ' and . join letters or digits.
ASCII_WORDS = re.compile(r"[a-z0-9_@]+(?:(?:(?<=[a-z@])['.](?=[a-z@])|(?<=[0-9])['.,;](?=[0-9]))"
                         r"[a-z0-9_@]+)*|\S")


def split_words(text, rule):
    if rule.get("words") != "unicode":
        return text.lower().split()
    if icu is None:
        assert text.isascii(), f"{text!r}: PyICU is needed for words that are not ASCII"
        return ASCII_WORDS.findall(text.lower())
    text = icu.UnicodeString(text).toLower(icu.Locale.getRoot())
    breaks = icu.BreakIterator.createWordInstance(icu.Locale.getRoot())
    breaks.setText(text)
    edges = [0, *breaks]
    return [w for a, b in zip(edges, edges[1:]) for w in str(text[a:b]).split()]


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


def picture(text, rule):
    data, (height, width, channels) = base64.b64decode(text.split(",")[-1]), rule["element_shape"]
    if data[:4] == b"\x89PNG":
        pixels = decode_png(data, channels)
    else:
        from PIL import Image
        image = Image.open(io.BytesIO(data))
        if channels == 1:
            image.draft("L", None)  # Y as it is, not Y to RGB to grey
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        pixels = pixels.reshape(*pixels.shape[:2], channels)
    if pixels.shape[:2] == (height, width):
        return pixels
    assert rule["resize"] == "bilinear", f"{pixels.shape}, expected {rule['element_shape']}"
    for axis, to in ((1, width), (0, height)):  # pixel centres at i + 0.5, edges repeated
        size = pixels.shape[axis]
        at = (np.arange(to) + 0.5) * size / to - 0.5
        low = np.floor(at).astype(int)
        weight = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        first, second = (np.take(pixels, np.clip(k, 0, size - 1), axis) for k in (low, low + 1))
        pixels = first * (1 - weight) + second * weight
    return np.floor(pixels + 0.5).astype(np.uint8)


def number(value, rule):
    value = math.log1p(float(value)) if rule["log1p"] else float(value)
    return np.float32((value + rule["offset"]) * rule["scale"])


def elements(raw, rule, ids):
    """The value of a field; of a sequence its elements."""
    kind, known = rule["kind"], ids.get(rule.get("vocabulary"))
    if kind == "image":
        return picture(raw[rule["field"]], rule)
    if kind == "number":
        names = [float(raw[c["column"]] == n) for c in rule.get("one_hot", []) for n in c["names"]]
        return np.array([number(raw[c], rule) for c in rule["columns"]] + names, np.float32)
    value = raw[rule["columns"][0]]
    if kind in ("id", "label"):
        return np.int32(known[str(value)] if known else int(value))
    if isinstance(value, str):
        words = split_words(value, rule)
    else:
        words = [str(w).lower() for e in value for w in (e if isinstance(e, list) else [e])]
    if kind == "numbers":
        return np.array([number(w, rule) for w in words], np.float32).reshape(-1, rule["width"])
    if kind == "tokens":
        return np.array([known.get(w, rule["unknown_id"]) for w in words], np.int32)
    return np.array([known[w] if known else int(w) for w in words], np.int32)


def batch(rows, rules, ids):
    feed = {}
    for rule in rules:
        values = [elements(raw, rule, ids) for raw in rows]
        if "max_length" in rule:  # the last ones are kept, padding behind
            values = [v[-rule["max_length"]:] for v in values]
            lengths = feed[rule["lengths"]] = np.array([len(v) for v in values], np.int32)
            shape = (len(rows), max(lengths.max(), 1), *rule["element_shape"])
            padded = np.full(shape, rule["padding"], rule["dtype"])
            for to, v in zip(padded, values):
                to[:len(v)] = v
            values = padded
        feed[rule["field"]] = np.asarray(values, rule["dtype"])
    return feed


def main(folder):
    spec = json.load(open(folder + "/preprocess.json", encoding="utf-8"))
    assert (spec["format"], spec["version"]) == ("cohort-preprocess", 1), spec["format"]
    ids = {v["name"]: {w: i for i, w in enumerate(v["entries"])} for v in spec["vocabularies"]}
    golden = [json.loads(line) for line in open(folder + "/golden.jsonl", encoding="utf-8")]
    session = onnxruntime.InferenceSession(folder + "/model.onnx", providers=["CPUExecutionProvider"])
    inputs = {i.name for i in session.get_inputs()}
    found = {o.name: [] for o in session.get_outputs()}
    for at in range(0, len(golden), 7):
        feed = batch([row["raw"] for row in golden[at:at + 7]], spec["inputs"], ids)
        answer = session.run(list(found), {k: v for k, v in feed.items() if k in inputs})
        for name, values in zip(found, answer):
            found[name].extend(values.astype(np.float64))
    failed = not golden
    for name, values in found.items():
        is_probability = name.startswith("probabilit")
        expected = np.array([r["probabilities" if is_probability else "output"] for r in golden])
        limit = 1e-5 if is_probability else 1e-4 * np.abs(expected).max()
        worst = np.abs(np.reshape(values, expected.shape) - expected).max()
        failed = failed or not worst <= limit
        print(f"{name}: largest difference {worst:.3g}, allowed {limit:.3g}, rows {len(golden)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
