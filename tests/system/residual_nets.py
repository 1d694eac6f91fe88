"""The residual nets of configs/ as whole jobs at toy size: class folders of pictures to predictions.

  residual_nets.py COHORT SOURCE_FOLDER MPIEXEC

Channels are a sixteenth, pictures are small; blocks, strides and the order of layers are the file's.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from pictures import CLASSES, PICTURES, make_pictures

SECONDS = 100 * int(os.environ.get("COHORT_PATIENCE", "1"))


def run(*command):
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=SECONDS)
    if done.returncode:
        sys.exit(f"exit {done.returncode}: {' '.join(map(str, command))}\n{done.stdout[-3000:]}")
    return done.stdout


def toy(config, folder):
    text = re.sub(r"filters: (\d+)", lambda m: f"filters: {int(m[1]) // 16}", config.read_text())
    path = folder / config.name
    path.write_text(text)
    return path


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def job(name, shards, tools, work):
    cohort, source, mpiexec = tools
    config = toy(source / "configs" / f"{name}.yaml", work)
    options = [f"data.shards={shards}", f"runs={work}", "data.lanes=0", "train.global_batch=7",
               "train.epochs=1", "device.threads=1", "train.log_every_steps=1",
               "optimizer.warmup_steps=0"]
    found = {}
    for ranks in (1, 2):
        launcher = [mpiexec, "-n", ranks] if ranks > 1 else []
        run(*launcher, cohort, "train", config, *options, f"name={name}-{ranks}")
        found[ranks] = losses(work / f"{name}-{ranks}")
    if len(found[1]) < 3 or len(found[1]) != len(found[2]):
        sys.exit(f"{name}: losses {found}")
    if abs(found[1][0] - found[2][0]) > 1e-4 * abs(found[1][0]):
        sys.exit(f"{name}: the first loss depends on the ranks: {found}")
    scores = run(cohort, "eval", work / f"{name}-2", "--split", "test")
    if "accuracy" not in scores:
        sys.exit(f"{name}: eval says no accuracy:\n{scores}")
    run(cohort, "predict", work / f"{name}-2", "--split", "test")
    rows = (work / f"{name}-2" / "predictions" / "test.jsonl").read_text().splitlines()
    if len(rows) != len(CLASSES) * PICTURES:
        sys.exit(f"{name}: {len(rows)} predictions")
    print(name, found)


def main():
    tools = tuple(pathlib.Path(p).absolute() for p in sys.argv[1:4])
    cohort, source = tools[:2]
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        make_pictures(work / "small", ("train", "test"), 32)
        make_pictures(work / "large", ("train", "val"), 45)
        run(cohort, "shard", source / "shards/cifar10-jpeg.yaml", f"root={work}/small",
            f"output={work}/small-set")
        run(cohort, "shard", source / "shards/imagenet.yaml", f"root={work}/large",
            f"output={work}/large-set", "hold_out.0.fraction=0.2", "sources.0.size=[40, 33]",
            "sources.1.size=[40, 33]")
        job("image-resnet18", work / "small-set", tools, work)
        job("image-resnet50", work / "large-set", tools, work)


main()
