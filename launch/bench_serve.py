"""Rows a second and latency of `cohort serve`, in turns with ONNX Runtime on the same model.

  bench_serve.py COHORT SOURCE_FOLDER SECONDS BUNDLE...    prints the rows of the two tables
  bench_serve.py http BUNDLE THREADS                       serves the bundle by ONNX Runtime

Servers answer raw rows over HTTP: /v1/score, keep-alive connections of this process. The second one
is what one would write in Python: aiohttp, tests/export/reference.py, ONNX Runtime, JSON; a process
for each thread and connection, the other threads inside the model. Models alone answer numbers that
were made before, in one process: no HTTP, no JSON, no preparing.
"""
import asyncio
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


class Servers:
    """Processes that print their URL; `addresses`."""

    def __init__(self, command, count=1):
        self.processes = [subprocess.Popen(command, stdout=subprocess.PIPE,
                                           stderr=subprocess.DEVNULL, text=True)
                          for _ in range(count)]
        urls = [urllib.parse.urlsplit(p.stdout.readline().strip()) for p in self.processes]
        self.addresses = [(at.hostname, at.port) for at in urls]

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


def cohort_serve(cohort, bundle, case):
    return Servers([cohort, "serve", str(bundle), "--port", "0", "--threads", str(case[0]),
                    "--drain-ms", "0"])


def runtime_serve(bundle, case):
    workers = min(case[0], case[1])
    return Servers([sys.executable, __file__, "http", str(bundle), str(case[0] // workers)], workers)


def serve_runtime(bundle, threads):
    """ONNX Runtime behind HTTP, until this process is ended."""
    from aiohttp import web
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/export"))
    bundle = pathlib.Path(bundle)
    session = session_of(bundle, int(threads))
    names = [o.name for o in session.get_outputs()]
    prepare = preparer(bundle, session)
    labels = json.loads((bundle / "manifest.json").read_text())["labels"]

    async def score(request):
        rows = json.loads(await request.read())["rows"]
        found = dict(zip(names, session.run(names, prepare(rows))))
        answers = [dict(zip(found, row)) for row in zip(*(v.tolist() for v in found.values()))]
        if "probabilities" in found:
            for answer, best in zip(answers, found["probabilities"].argmax(1)):
                answer["label"] = labels[best]
        return web.Response(body=json.dumps({"answers": answers}).encode(),
                            content_type="application/json")

    async def serve():
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/score", score)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        listening = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listening).start()
        print("http://127.0.0.1:%d" % listening.getsockname()[1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


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


def measure_servers(addresses, requests, connections, seconds):
    """Requests a second, and the seconds of each."""
    ready = selectors.DefaultSelector()
    for k in range(connections):
        one = Connection(addresses[k % len(addresses)], requests, 7 * k)
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


def preparer(bundle, session):
    """From raw rows to what the session is fed."""
    import reference
    spec = json.loads((bundle / "preprocess.json").read_text())
    ids = {v["name"]: {w: i for i, w in enumerate(v["entries"])} for v in spec["vocabularies"]}
    wanted = {i.name for i in session.get_inputs()}
    return lambda rows: {k: v for k, v in reference.batch(rows, spec["inputs"], ids).items()
                         if k in wanted}


def measure_engine(cohort, bundle, threads, rows, seconds):
    """The model alone in batches of `rows`, as cohort score --bench measures it."""
    told = subprocess.run([cohort, "score", str(bundle), "--bench", str(seconds), "--threads",
                           str(threads), "--rows", str(rows)],
                          check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found = json.loads(told.stdout)["model"]
    return found["rows_per_second"] / rows, found["p50_ms"] / 1000, found["p99_ms"] / 1000


def quantiles(times):
    times = sorted(times)
    return [times[min(len(times) - 1, int(q * len(times)))] for q in (0.5, 0.99)]


def write(rows, rate, p50, p99):
    return f"{rows * rate:.0f} | {1000 * p50:.2f} | {1000 * p99:.2f}"


def medians(found):
    return [statistics.median(column) for column in zip(*found)]


def servers_line(cohort, bundle, golden, case, seconds):
    threads, connections, size = case
    requests = [request(rows) for rows in batches_of(golden, size)]
    found = {cohort_serve: [], runtime_serve: []}
    for _ in range(ROUNDS):
        for start, measured in found.items():
            arguments = (cohort, bundle, case) if start is cohort_serve else (bundle, case)
            with start(*arguments) as servers:
                rate, times = measure_servers(servers.addresses, requests, connections, seconds)
            measured.append((rate, *quantiles(times)))
    ours, theirs = (medians(measured) for measured in found.values())
    print(f"| {bundle.name} | {threads} | {size} | {connections} | {write(size, *ours)} | "
          f"{write(size, *theirs)} | {ours[0] / theirs[0]:.1f} |", flush=True)


def models_line(cohort, bundle, golden, threads, size, seconds):
    session = session_of(bundle, threads)
    prepare = preparer(bundle, session)
    feeds = [prepare(rows) for rows in batches_of(golden, size)]
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(measure_engine(cohort, bundle, threads, size, seconds))
        rate, times = measure_runtime(session, feeds, seconds)
        theirs.append((rate, *quantiles(times)))
    ours, theirs = medians(ours), medians(theirs)
    print(f"| {bundle.name} | {threads} | {size} | {write(size, *ours)} | {write(size, *theirs)} | "
          f"{ours[0] / theirs[0]:.1f} |", flush=True)


def batches_of(golden, size):
    return [[golden[(at + k) % len(golden)] for k in range(size)]
            for at in range(0, len(golden), size)]


def main(cohort, source, seconds, *bundles):
    sys.path.insert(0, source + "/tests/export")
    golden = {bundle: [json.loads(text)["raw"]
                       for text in (bundle / "golden.jsonl").read_text().splitlines()]
              for bundle in map(pathlib.Path, bundles)}
    print("| model | threads | rows a request | connections | cohort serve: rows/s | p50 ms | p99 ms "
          "| ONNX Runtime behind aiohttp: rows/s | p50 ms | p99 ms | ratio of rows/s |")
    print("|---" * 11 + "|")
    for bundle, rows in golden.items():
        for case in CASES:
            servers_line(cohort, bundle, rows, case, float(seconds))
    print("\n| model | threads | rows a batch | Cohort: rows/s | p50 ms | p99 ms "
          "| ONNX Runtime: rows/s | p50 ms | p99 ms | ratio of rows/s |")
    print("|---" * 10 + "|")
    for bundle, rows in golden.items():
        for threads, size in sorted({(threads, size) for threads, _, size in CASES}):
            models_line(cohort, bundle, rows, threads, size, float(seconds))


if __name__ == "__main__":
    if sys.argv[1] == "http":
        serve_runtime(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
