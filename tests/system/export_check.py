"""Looks at a bundle as others would.

  export_check.py pictures FOLDER          class folders of small pictures in FOLDER/{train,test,val}
  export_check.py bundle BUNDLE CHECKPOINT ANSWERS
      weights by the safetensors package against those of the checkpoint; ANSWERS (of cohort score to
      the rows of golden.jsonl) against the golden ones; vectors against the score of a two-tower model
  export_check.py rows BUNDLE              the raw rows of golden.jsonl, a line each
  export_check.py users BUNDLE             {"user": id} of each golden row
  export_check.py top BUNDLE USERS TOP     TOP (of cohort score --top to USERS) against every item by the
                                           towers' models; ids by name
  export_check.py texts FOLDER             FOLDER/{train,test}.csv with texts of many writings
  export_check.py words BUNDLE RULE        how words of theirs were cut
  export_check.py flip FILE AT             flips one bit of the byte at AT (a fraction)
"""
import csv
import json
import pathlib
import sys

from pictures import make_pictures


def lines_of(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]   # splitlines() ends some at U+2028


def golden(bundle):
    return lines_of(bundle / "golden.jsonl")


def check_weights(bundle, checkpoint):
    import numpy as np
    from safetensors.numpy import load_file
    ours = load_file(bundle / "weights.safetensors")
    trained = {}
    for path in sorted(checkpoint.glob("tensors-*.safetensors")):
        for name, value in load_file(path).items():
            if not name.startswith("optimizer/"):
                trained.setdefault(name, []).append(value)
    trained = {name: np.concatenate(parts) if len(parts) > 1 else parts[0]
               for name, parts in trained.items()}
    assert set(ours) == set(trained), set(ours) ^ set(trained)
    for name, value in ours.items():
        assert np.array_equal(value, trained[name]), name


def check_answers(bundle, answers):
    import numpy as np
    rows = golden(bundle)
    lines = lines_of(answers)
    assert len(lines) == len(rows) > 0, (len(lines), len(rows))
    largest = max(np.abs(row["output"]).max() for row in rows)
    target = json.loads((bundle / "preprocess.json").read_text()).get("target")
    labels = json.loads((bundle / "manifest.json").read_text())["labels"]
    assert ("prediction" in lines[0]) == ("value" in lines[0]) == (target is not None), lines[0]
    for row, line in zip(rows, lines):
        output = line.get("prediction", line.get("logits", [line.get("logit")]))
        assert np.abs(np.subtract(output, row["output"])).max() <= 1e-4 * largest, row["row"]
        if target:   # no config has its target among its inputs
            assert target["normalization"] == {"inv_std": [], "mean": [], "scale": 1}, target
            value = np.array(output) / target["scale"] - target["offset"]
            value = np.expm1(value) if target["log1p"] else value
            assert np.allclose(line["value"], value, rtol=1e-12, atol=1e-12), row["row"]
        if row["probabilities"]:
            p = line.get("probabilities", [line["probability"]])
            assert np.abs(np.subtract(p, row["probabilities"])).max() <= 1e-5, row["row"]
            assert len(labels) == len(p) if "label" in line else labels == ["0", "1"], labels


def check_vectors(bundle):
    """The stored vectors give the golden rows of items whose features never change."""
    import numpy as np
    from safetensors.numpy import load_file
    manifest = json.loads((bundle / "manifest.json").read_text())
    if "two_tower" not in manifest:
        return
    items, users = load_file(bundle / "items.safetensors"), load_file(bundle / "users.safetensors")
    assert items["known"].sum() == manifest["two_tower"]["items"] > 0
    assert users["known"].sum() == manifest["two_tower"]["users"] > 0
    assert np.isfinite(items["vectors"]).all() and np.abs(items["vectors"]).max() > 0
    recall = manifest["two_tower"].get("recall")
    assert recall is None or recall["value"] >= 0.99, recall


def check_top(bundle, users, tops):
    """By the towers' models on stored features, every item compared."""
    import numpy as np
    import onnxruntime
    from safetensors.numpy import load_file
    stored, items = load_file(bundle / "users.safetensors"), load_file(bundle / "items.safetensors")
    spec = json.loads((bundle / "preprocess.json").read_text())
    names = {v["name"]: v["entries"] for v in spec["vocabularies"]}
    of_field = {r["field"]: names[r["vocabulary"]] for r in spec["inputs"] if "vocabulary" in r}
    tower, scorer = (onnxruntime.InferenceSession(str(bundle / name))
                     for name in ("user_tower.onnx", "scorer.onnx"))
    known = np.flatnonzero(items["known"])
    for user, top in zip(users, tops, strict=True):
        id = of_field["user"].index(user["user"])
        feed = {i.name: stored["features/" + i.name][[id]] for i in tower.get_inputs()}
        vector = np.repeat(tower.run(None, feed)[0], len(known), 0)
        outputs = dict(zip((o.name for o in scorer.get_outputs()), scorer.run(
            None, {"user_vector": vector, "item_vector": items["vectors"][known]})))
        told = {"score" if name in ("prediction", "logit") else name: values[:, 0]
                for name, values in outputs.items()}
        found = [list(known).index(of_field["item"].index(item["item"])) for item in top["items"]]
        assert len(set(found)) == 4 and set(top["items"][0]) == {"item", *told}, top
        least = np.sort(told["score"])[-4]
        for k, item in zip(found, top["items"]):
            assert told["score"][k] >= least - 1e-5, (user, item)
            for key, values in told.items():
                assert abs(values[k] - item[key]) <= 1e-4 * max(1, abs(item[key])), (user, item)
        scores = [item["score"] for item in top["items"]]
        assert scores == sorted(scores, reverse=True), (user, scores)


# Capitals of Turkish and Greek, writings without spaces, accents of their own, signs of several code
# points, digits, and white space that is none elsewhere.
TEXTS = [
    "İSTANBUL'da IŞIK ışık İyi film", "ΟΔΥΣΣΕΥΣ ΣΑΣ, kala", "我喜欢这部电影 東京タワーは高いです",
    "ฉันรักหนังเรื่องนี้", "👍🏽 gut 👩\u200d👩\u200d👧 🇩🇪🇫🇷 ❤\ufe0f!",
    "cafe\u0301 Cañon A\u030angstro\u0308m nin\u0303o", "3.14 1,000 10:30 e-mail a@b.org it's l’été",
    "a\u00a0b\u3000c\u2003d\u1680e\u0085f\u2028g",
    "one\x1ctwo\x1fthree four\u200bfive six\u00adseven",
    "ＡＢＣ ﬁlm ǄUNGLA سلام שלום दुनिया 한국어"]


def make_texts(folder):
    folder.mkdir()
    for split in ("train", "test"):
        with open(folder / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["text", "label"])
            for k in range(40):
                text = TEXTS[k % 10] + " " + TEXTS[(k * 3 + 1) % 10]
                lines.writerow([text, ("gut", "übel")[k % 2]])


def check_words(bundle, rule):
    assert json.loads((bundle / "manifest.json").read_text())["labels"] == ["gut", "übel"]
    spec = json.loads((bundle / "preprocess.json").read_text())
    known = set(spec["vocabularies"][0]["entries"])
    both = {"i\u0307stanbul'da", "ışık", "οδυσσευς", "cafe\u0301", "👍🏽", "c", "six\u00adseven"}
    cut = {"喜欢", "は", "!", "mail"}   # Chinese and Japanese: by ICU's dictionaries
    assert both <= known, both - known
    assert cut & known == (cut if rule == "unicode" else set()), cut & known


def main():
    what, path, *rest = sys.argv[1:]
    bundle = pathlib.Path(path)
    if what == "pictures":
        make_pictures(bundle, ("train", "test", "val"), 32)
    elif what == "rows":
        for row in golden(bundle):
            print(json.dumps(row["raw"]))
    elif what == "top":
        check_top(bundle, *map(lines_of, rest))
    elif what == "texts":
        make_texts(bundle)
    elif what == "words":
        check_words(bundle, rest[0])
    elif what == "users":
        for row in golden(bundle):
            print(json.dumps({"user": row["raw"]["user"]}))
    elif what == "flip":
        data = bytearray(bundle.read_bytes())
        data[min(int(float(rest[0]) * len(data)), len(data) - 1)] ^= 1
        bundle.write_bytes(data)
    else:
        check_weights(bundle, pathlib.Path(rest[0]))
        check_answers(bundle, rest[1])
        check_vectors(bundle)


main()
