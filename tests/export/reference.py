"""From raw rows to a bundle's answers by preprocess.json and model.onnx alone: no code of Cohort.

  reference.py BUNDLE [ANSWERS]   prints the largest differences from golden.jsonl; exit 1 where they are
                                  beyond 1e-5 on probabilities or 1e-4 of the largest on others. ANSWERS:
                                  of cohort score to those rows; labels by name and values are compared

Needs numpy, onnxruntime; PyICU for words, Pillow for pictures.
"""
import base64, io, json, math, re, sys

import numpy as np
import onnxruntime

from pixels import pixels_of, resized

# Between white space as Unicode has it (White_Space), which is not what str.split() takes for it.
BETWEEN = re.compile(r"[^\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def split_words(text, rule):
    text = text.lower()
    if rule.get("words") != "unicode":
        return BETWEEN.findall(text)
    import icu
    text, breaks = icu.UnicodeString(text), icu.BreakIterator.createWordInstance(icu.Locale.getRoot())
    breaks.setText(text)
    edges = [0, *breaks]
    return [word for a, b in zip(edges, edges[1:]) for word in BETWEEN.findall(str(text[a:b]))]


def picture(text, rule):
    height, width, channels = rule["element_shape"]
    pixels = pixels_of(base64.b64decode(text.split(",")[-1]), channels)
    if pixels.shape[:2] != (height, width):
        assert rule["resize"] == "bilinear", f"{pixels.shape}, expected {rule['element_shape']}"
        pixels = resized(pixels, height, width)
    return pixels


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


def raw_of(prediction, target):
    """What a prediction stands for in the raw data."""
    norm = target["normalization"]
    x = prediction / norm["inv_std"] + norm["mean"] if norm["mean"] else prediction
    x = x / norm["scale"] / target["scale"] - target["offset"]
    return np.expm1(x) if target["log1p"] else x


def expected_of(name, golden, target):
    is_probability = name.startswith("probabilit")
    expected = np.array([row["probabilities" if is_probability else "output"] for row in golden])
    return raw_of(expected, target) if name == "value" else expected


def check_answers(path, found, labels):
    """Of cohort score: the name of a largest probability, the value."""
    for row, line in enumerate(open(path, encoding="utf-8")):
        answer = json.loads(line)
        if "label" in answer:
            p = found["probabilities"][row]
            assert p[labels.index(answer["label"])] >= max(p) - 1e-5, (row, answer)
        if "value" in answer:
            most = 1e-4 * np.abs(found["value"]).max()
            assert np.allclose(answer["value"], found["value"][row], 0, most), (row, answer)


def main(folder, answers=None):
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
        expected = expected_of(name, golden, spec.get("target"))
        limit = 1e-5 if name.startswith("probabilit") else 1e-4 * np.abs(expected).max()
        worst = np.abs(np.reshape(values, expected.shape) - expected).max()
        failed = failed or not worst <= limit
        print(f"{name}: largest difference {worst:.3g}, allowed {limit:.3g}, rows {len(golden)}")
    if answers:
        labels = json.load(open(folder + "/manifest.json", encoding="utf-8"))["labels"]
        check_answers(answers, found, labels)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
