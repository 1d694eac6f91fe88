"""Looks at a serving repository as others would.

  publish_check.py whole REPO          current and every version by all their SHA-256
  publish_check.py read REPO STOP      the same of current, again and again, until the file STOP exists;
                                       says how often
  publish_check.py list FILE N...      the JSON of `publish --list`: these versions, the last is current
  publish_check.py history REPO        "action version" of every line
"""
import hashlib
import json
import os
import sys

PLAIN = {"manifest.json", "MANIFEST.sha256"}


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def check(folder):
    root = open(folder + "/MANIFEST.sha256").read()
    assert root == sha256(folder + "/manifest.json") + "  manifest.json\n", folder
    wanted = json.load(open(folder + "/manifest.json"))["sha256"]
    assert set(os.listdir(folder)) == set(wanted) | PLAIN, folder
    for name, digest in wanted.items():
        assert sha256(f"{folder}/{name}") == digest, f"{folder}/{name}"


def current(repo):
    target = os.readlink(repo + "/current")
    assert target.startswith("versions/"), target
    return f"{repo}/{target}"


def whole(repo):
    if os.path.lexists(repo + "/current"):
        check(current(repo))
    for name in os.listdir(repo + "/versions"):
        if ".tmp" not in name:
            check(f"{repo}/versions/{name}")


def read(repo, stop):
    rounds, seen = 0, set()
    while not os.path.exists(stop):
        folder = current(repo)
        check(folder)
        seen.add(folder)
        rounds += 1
    assert rounds > 10 and len(seen) > 1, (rounds, seen)
    print(f"{rounds} reads of {len(seen)} versions")


def main():
    what, path, *rest = sys.argv[1:]
    if what == "whole":
        whole(path)
    elif what == "read":
        read(path, rest[0])
    elif what == "list":
        versions = json.load(open(path))["versions"]
        assert [v["version"] for v in versions] == [int(n) for n in rest], versions
        assert [v["version"] for v in versions if v["current"]] == [int(rest[-1])], versions
        assert all(len(v["digest"]) == 64 and v["metrics"]["log_loss"] > 0 for v in versions)
    else:
        for line in map(json.loads, open(path + "/history.jsonl")):
            assert line["time"]
            print(line["action"], line["version"])


main()
