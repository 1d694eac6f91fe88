"""Rows a second and latency of `cohort serve`, in turns with ONNX Runtime on the same model.

  bench_serve.py COHORT SOURCE_FOLDER SECONDS BUNDLE...    prints the rows of the table

cohort serve answers raw rows over HTTP: /v1/score, keep-alive connections of this process. ONNX
Runtime answers numbers that were made before, in this process: no HTTP, no JSON, no preparing.
"""
import json
import pathlib
import selectors
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse

ROUNDS = 3
# Threads, connections, rows of a request.
CASES = ((1, 1, 1), (1, 1, 32), (2, 1, 1), (2, 8, 1), (2, 4, 32))


class Server:
    def __init__(self, cohort, bundle, threads):
        self.process = subprocess.Popen(
            [cohort, "serve", bundle, "--port", "0", "--threads", str(threads), "--drain-ms", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        at = urllib.parse.urlsplit(self.process.stdout.readline().strip())
        self.address = at.hostname, at.port

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.terminate()
        self.process.wait()


def request(rows):
    body = json.dumps({"rows": rows}).encode()
    return (b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)) + body


class Connection:
    def __init__(self, address, requests, offset):
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests, self.next = requests, offset

    def ask(self):
        self.start = time.perf_counter()
        self.reply, self.length = b"", None
        self.socket.sendall(self.requests[self.next % len(self.requests)])
        self.next += 1

    def answered(self):
        self.reply += self.socket.recv(1 << 18)
        if self.length is None:
            end = self.reply.find(b"\r\n\r\n")
            if end < 0:
                return False
            assert self.reply.startswith(b"HTTP/1.1 200"), self.reply[:300]
            at = self.reply.find(b"Content-Length: ") + 16
            self.length = end + 4 + int(self.reply[at:self.reply.find(b"\r", at)])
        return len(self.reply) >= self.length


def measure_server(address, requests, connections, seconds):
    """Requests a second, and the seconds of each."""
    ready = selectors.DefaultSelector()
    for k in range(connections):
        one = Connection(address, requests, 7 * k)
        ready.register(one.socket, selectors.EVENT_READ, one)
        one.ask()
    times, warm = [], time.perf_counter() + seconds / 5
    end = warm + seconds
    while (now := time.perf_counter()) < end:
        for key, _ in ready.select():
            one = key.data
            if one.answered():
                if one.start > warm:
                    times.append(time.perf_counter() - one.start)
                one.ask()
    return len(times) / (now - warm), times


def measure_runtime(session, feeds, seconds):
    times, k, warm = [], 0, time.perf_counter() + seconds / 5
    end = warm + seconds
    while (now := time.perf_counter()) < end:
        session.run(None, feeds[k % len(feeds)])
        k += 1
        if now > warm:
            times.append(time.perf_counter() - now)
    return len(times) / (now - warm), times


def session_of(bundle, threads):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(bundle / "model.onnx"), options,
                                        providers=["CPUExecutionProvider"])


def feeds_of(bundle, rows, session):
    import reference
    spec = json.loads((bundle / "preprocess.json").read_text())
    ids = {v["name"]: {w: i for i, w in enumerate(v["entries"])} for v in spec["vocabularies"]}
    wanted = {i.name for i in session.get_inputs()}
    feeds = [reference.batch(some, spec["inputs"], ids) for some in rows]
    return [{k: v for k, v in feed.items() if k in wanted} for feed in feeds]


def line(bundle, case, who, found):
    threads, connections, rows = case
    rates = [rate for rate, _ in found]
    times = sorted(t for _, some in found for t in some)
    p50, p99 = (1000 * times[min(len(times) - 1, int(q * len(times)))] for q in (0.5, 0.99))
    print(f"| {bundle.name} | {threads} | {rows} | {connections} | {who} | "
          f"{rows * statistics.median(rates):.0f} | {p50:.2f} | {p99:.2f} |", flush=True)


def main(cohort, source, seconds, *bundles):
    sys.path.insert(0, source + "/tests/export")
    for bundle in map(pathlib.Path, bundles):
        golden = [json.loads(text)["raw"] for text in (bundle / "golden.jsonl").read_text().splitlines()]
        for case in CASES:
            threads, connections, size = case
            batches = [[golden[(at + k) % len(golden)] for k in range(size)]
                       for at in range(0, len(golden), size)]
            requests = [request(rows) for rows in batches]
            session = session_of(bundle, threads)
            feeds = feeds_of(bundle, batches, session)
            ours, theirs = [], []
            for _ in range(ROUNDS):
                with Server(cohort, str(bundle), threads) as server:
                    ours.append(measure_server(server.address, requests, connections, float(seconds)))
                theirs.append(measure_runtime(session, feeds, float(seconds)))
            line(bundle, case, "cohort serve", ours)
            line(bundle, (threads, 1, size), "ONNX Runtime, no HTTP", theirs)


if __name__ == "__main__":
    main(*sys.argv[1:])
