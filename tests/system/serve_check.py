"""Asks a server of `cohort serve` as others would.

  serve_check.py triton URL NAME BUNDLE ANSWERS [TOP]
      tritonclient, binary and JSON, against ANSWERS of cohort score to the rows of golden.jsonl, and
      against TOP, the best four items of their users
  serve_check.py hostile URL                      what is malformed, huge or slow gets an error
  serve_check.py fuzz URL NAME BUNDLE             mutated requests of a golden row
  serve_check.py load URL REPORT STOP             rows until the file STOP is there, or no connection
                                                  is taken; writes how many were answered, and lost
  serve_check.py metrics URL LINE...              each line is in /metrics
  serve_check.py body URL STATUS                  of GET URL, printed
"""
import base64
import http.client
import json
import pathlib
import random
import re
import socket
import sys
import threading
import time
import urllib.parse


def parts(url):
    at = urllib.parse.urlsplit(url)
    return at.hostname, at.port


def ask(url, path, body=None, headers=None, timeout=60):
    connection = http.client.HTTPConnection(*parts(url), timeout=timeout)
    connection.request("GET" if body is None else "POST", path, body, headers or {})
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply.status, data


def tensor(client, np, column, values, width, binary):
    """Raw values of a column: as numbers and files where that can be, else as texts."""
    kind, datatype = column["parameters"]["kind"], "BYTES"
    if kind == "number":
        array, datatype = np.array([float(v) for v in values], np.float32), "FP32"
    elif kind == "id" and binary and all(v.isdigit() for v in values):
        array, datatype = np.array([int(v) for v in values]), "INT64"
    elif kind in ("numbers", "ids") and len(values) == 1:
        words = values[0].split()
        shape = (1, len(words) // width) + ((width,) if width > 1 else ())
        datatype = "FP32" if kind == "numbers" else "INT64"
        array = np.array([float(w) for w in words]).reshape(shape)
        array = array.astype(np.float32 if kind == "numbers" else np.int64)
    elif kind == "image" and binary:
        array = np.array([base64.b64decode(v) for v in values], object)
    else:
        array = np.array(values, object)
    one = client.InferInput(column["name"], list(array.shape), datatype)
    one.set_data_from_numpy(array, binary_data=binary)
    return one


def compare(np, reply, outputs, wanted):
    for output in outputs:
        got = reply.as_numpy(output["name"])
        expected = [w[output["name"]] for w in wanted]
        if output["datatype"] == "BYTES":
            got = [[v.decode() if isinstance(v, bytes) else v for v in np.ravel(g)] for g in got]
            assert got == [list(np.ravel(e)) for e in expected], output
        else:
            expected = np.array(expected).reshape(got.shape)
            assert np.abs(got - expected).max() <= 1e-5 * max(1, np.abs(expected).max()), output


def triton(url, name, bundle, answers, top=None):
    import numpy as np
    import tritonclient.http as client
    server = client.InferenceServerClient("%s:%d" % parts(url))
    assert server.is_server_live() and server.is_server_ready() and server.is_model_ready(name)
    told = server.get_model_metadata(name)
    rows = [json.loads(line)["raw"]
            for line in pathlib.Path(bundle, "golden.jsonl").read_text().splitlines()]
    rules = json.loads(pathlib.Path(bundle, "preprocess.json").read_text())["inputs"]
    widths = {c: rule.get("width", 1) for rule in rules for c in rule.get("columns", ())}
    wanted = [json.loads(line) for line in pathlib.Path(answers).read_text().splitlines()]
    assert len(rows) == len(wanted)

    def ask(columns, some, binary, outputs, **more):
        inputs = [tensor(client, np, c, [r[c["name"]] for r in some], widths.get(c["name"], 1),
                         binary)
                  for c in columns]
        reply = server.infer(name, inputs, request_id="r1", outputs=[
            client.InferRequestedOutput(o["name"], binary_data=binary) for o in outputs], **more)
        assert reply.get_response()["id"] == "r1"
        return reply
    for binary in (True, False):
        for k, some in [(0, rows)] + [(k, [rows[k]]) for k in range(3)]:
            reply = ask(told["inputs"], some, binary, told["outputs"])
            compare(np, reply, told["outputs"], wanted[k:k + len(some)])
        if top:
            found = [json.loads(line)["items"] for line in pathlib.Path(top).read_text().splitlines()]
            best = [{"items": [i["item"] for i in f],
                     "scores": [i.get("score", i.get("logit")) for i in f]} for f in found]
            outputs = [{"name": "items", "datatype": "BYTES"}, {"name": "scores", "datatype": "FP32"}]
            user = [c for c in told["inputs"] if c["name"] == "user"]
            compare(np, ask(user, rows, binary, outputs, parameters={"top": 4}), outputs, best)
    print(len(rows), "rows agree")


def raw(url, data, timeout=60):
    with socket.create_connection(parts(url), timeout=timeout) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused while it was sent
        reply = b""
        try:
            while piece := s.recv(65536):
                reply += piece
        except ConnectionResetError:
            pass
        return reply


def hostile(url):
    def alive():
        return ask(url, "/v2/health/live")[0] == 200
    deep = b'{"rows":' + b"[" * 200000 + b"]" * 200000 + b"}"
    wide = json.dumps({"rows": [{}] * 70000}).encode()
    cases = [(deep, 400), (wide, 400), (b"{", 400), (b'{"rows":[1e999]}', 400), (b"\xff" * 1000, 400),
             (b"[]", 400), (b'{"rows":[[[]]]}', 400), (b" " * (3 << 20), 413)]
    for body, status in cases:
        got = ask(url, "/v1/score", body)
        assert got[0] == status, (body[:40], got[0], got[1][:200])
        assert "error" in json.loads(got[1]), got
        assert alive()
    for data, status in ((b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n", b"400"), (b"a" * 100000, b"431"),
                         (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
                         (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"414"),
                         (b"TRACE / HTTP/1.1\r\n\r\n", b"405"), (b"\x16\x03\x01\x02\0\r\n\r\n", b"400")):
        reply = raw(url, data)
        assert reply.startswith(b"HTTP/1.1 " + status), (data[:40], reply[:80])
    # More connections than there are places that say little and stay: others are served.
    slow = [socket.create_connection(parts(url)) for _ in range(200)]
    for k, s in enumerate(slow):
        s.sendall(b"POST /v1/score HTTP/1.1\r\nContent-Length: 50\r\n" + (b"\r\n{" if k % 2 else b""))
    start = time.monotonic()
    assert alive()
    assert time.monotonic() - start < 9, time.monotonic() - start  # of the 10 that a head has
    for s in slow:
        s.close()


def fuzz(url, name, bundle):
    """Mutated requests of the first golden row: an answer, or none where there is no request."""
    row = json.loads(pathlib.Path(bundle, "golden.jsonl").read_text().splitlines()[0])["raw"]
    inputs = [{"name": n, "datatype": "BYTES", "shape": [1], "data": [v]} for n, v in row.items()]
    random.seed(1)
    for k in range(400):
        path, body = ("/v1/score", {"row": row}) if k % 2 else (
            f"/v2/models/{name}/infer", {"inputs": inputs})
        body = json.dumps(body).encode()
        data = bytearray(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" %
                         (path.encode(), len(body)) + body)
        if k < 2:
            assert raw(url, bytes(data)).startswith(b"HTTP/1.1 200"), path
        for _ in range(random.randint(1, 6)):
            # Half of them in the row alone.
            data[random.randrange(0 if k % 4 < 2 else len(data) - len(body), len(data))] = (
                random.randrange(256))
        if k % 3 == 0:
            del data[random.randint(1, len(data)):]
        reply = raw(url, bytes(data))
        assert not reply or re.match(rb"HTTP/1.1 (200|4\d\d|501|505) ", reply), (data, reply)
    assert ask(url, "/v2/health/live")[0] == 200


def load(url, report, stop):
    counts = {"answered": 0, "refused": 0, "lost": 0}
    lock = threading.Lock()
    versions = set()

    def taken():
        try:
            socket.create_connection(parts(url)).close()
            return True
        except OSError:
            return False

    def client():
        connection = None
        while not pathlib.Path(stop).exists():
            fresh = connection is None
            try:
                if fresh:
                    connection = http.client.HTTPConnection(*parts(url), timeout=60)
                    connection.connect()
            except OSError:
                return  # no connection is taken any more
            kind = "lost"
            try:
                connection.request("POST", "/v1/score", b'{"row":{"text":"a fine film"}}')
                reply = connection.getresponse()
                body = json.loads(reply.read())
                kind = "answered" if reply.status == 200 else "refused"
                if reply.status == 200:
                    versions.add(body["model"]["version"])
                if reply.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException):
                # Only the kernel had taken it when the server closed its door: as if it had not.
                if fresh and not taken():
                    return
                connection = None
            with lock:
                counts[kind] += 1

    threads = [threading.Thread(target=client) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    counts["versions"] = sorted(versions)
    pathlib.Path(report).write_text(json.dumps(counts) + "\n")


def metrics(url, *lines):
    text = ask(url, "/metrics")[1].decode().splitlines()
    for line in lines:
        assert any(t.startswith(line) for t in text), (line, text)


def body(url, status):
    at = urllib.parse.urlsplit(url)
    got = ask(url, at.path or "/")
    sys.stdout.write(got[1].decode())
    assert got[0] == int(status), got[0]


if __name__ == "__main__":
    {"triton": triton, "hostile": hostile, "fuzz": fuzz, "load": load,
     "metrics": metrics, "body": body}[sys.argv[1]](*sys.argv[2:])
