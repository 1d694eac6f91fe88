"""Looks at a bundle as others would.

  export_check.py pictures FOLDER          class folders of small pictures in FOLDER/{train,test,val}
  export_check.py bundle BUNDLE CHECKPOINT ANSWERS
      weights by the safetensors package against those of the checkpoint; ANSWERS (of cohort score to
      the rows of golden.jsonl) against the golden ones; vectors against the score of a two-tower model
  export_check.py rows BUNDLE              the raw rows of golden.jsonl, a line each
  export_check.py users BUNDLE             {"user": id} of each golden row
  export_check.py flip FILE AT             flips one bit of the byte at AT (a fraction)
"""
import json
import pathlib
import sys

from pictures import make_pictures


def golden(bundle):
    return [json.loads(line) for line in (bundle / "golden.jsonl").read_text().splitlines()]


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
    lines = [json.loads(line) for line in pathlib.Path(answers).read_text().splitlines()]
    assert len(lines) == len(rows) > 0, (len(lines), len(rows))
    largest = max(np.abs(row["output"]).max() for row in rows)
    target = json.loads((bundle / "preprocess.json").read_text()).get("target")
    assert ("prediction" in lines[0]) == ("value" in lines[0]) == (target is not None), lines[0]
    for row, line in zip(rows, lines):
        output = line.get("prediction", line.get("logits", [line.get("logit")]))
        assert np.abs(np.subtract(output, row["output"])).max() <= 1e-4 * largest, row["row"]
        if target:
            value = np.array(output) / target["scale"] - target["offset"]
            value = np.expm1(value) if target["log1p"] else value
            assert np.allclose(line["value"], value, rtol=1e-12, atol=1e-12), row["row"]
        if row["probabilities"]:
            p = line.get("probabilities", [line["probability"]])
            assert np.abs(np.subtract(p, row["probabilities"])).max() <= 1e-5, row["row"]


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


def main():
    what, path, *rest = sys.argv[1:]
    bundle = pathlib.Path(path)
    if what == "pictures":
        make_pictures(bundle, ("train", "test", "val"), 32)
    elif what == "rows":
        for row in golden(bundle):
            print(json.dumps(row["raw"]))
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
