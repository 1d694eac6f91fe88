"""From raw rows to a bundle's answers by preprocess.json and model.onnx alone: no code of Cohort.

  reference.py BUNDLE   prints the largest differences from golden.jsonl; exit 1 where they are beyond
                        1e-5 on probabilities or 1e-4 of the largest on the other output

Needs numpy and onnxruntime; PyICU for texts that are not ASCII, Pillow for other pictures than
plain 8-bit PNG.
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


def decode_png(data, channels):
    """8-bit grey or RGB, not interlaced, by the PNG specification; None for others."""
    width, height, depth, color, _, _, laced = struct.unpack(">IIBBBBB", data[16:29])
    if depth != 8 or color != (0 if channels == 1 else 2) or laced:
        return None
    at, packed, rows, before = 8, b"", [], [0] * width * channels
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        packed += data[at + 8:at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1).tolist()
    for method, *line in lines:
        for i, up in enumerate(before):
            left, corner = (line[i - channels], before[i - channels]) if i >= channels else (0, 0)
            paeth = min((left, up, corner), key=lambda v: abs(left + up - corner - v))
            line[i] = (line[i] + (0, left, up, (left + up) // 2, paeth)[method]) % 256
        rows.append(line)
        before = line
    return np.array(rows, np.uint8).reshape(height, width, channels)


def picture(text, rule):
    data, (height, width, channels) = base64.b64decode(text.split(",")[-1]), rule["element_shape"]
    pixels = decode_png(data, channels) if data[:4] == b"\x89PNG" else None
    if pixels is None:
        from PIL import Image
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L" if channels == 1 else "RGB"))
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
