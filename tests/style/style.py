"""The rules of the house that a compiler does not see.

  style.py ROOT         checks ROOT/src, ROOT/tests, ROOT/launch; prints violations, exit 1 if any
  style.py --self-test  shows on small trees that every rule catches its violation

Rules: a file includes its own room and rooms to its left; vendor headers stay in their place;
functions and files keep to the size budget; no machine paths and no unfinished marks.
"""
import pathlib
import re
import sys
import tempfile

ROOMS = ["base", "tensor", "store", "fields", "model", "export", "device", "comm", "data", "plan",
         "serve", "train", "app"]
# Header pattern -> pattern of the files under src/ that may include it.
VENDORS = {
    r"(oneapi/)?dnnl": r"device/cpu/",
    r"omp\.h": r"device/cpu/",
    r"mpi\.h": r"comm/(mpi|rendezvous)[^/]*$",
    r"(hdf5|H5)": r"store/hdf5[^/]*$",
    r"yaml-cpp/": r"base/config[^/]*$",
    r"faiss/": r"serve/",
    r"openssl/": r"serve/",
    r"httplib\.h": r"serve/http\.cpp$",
    r"CLI/": r"app/",
    r"(jpeglib|jerror|turbojpeg|png)\.h": r"fields/",
    r"unicode/": r"fields/",
    r"spdlog/": r"base/log\.cpp$",
    r"(onnx|google/protobuf)/": r"export/onnx[^/]*$",
    r"xxhash": r"base/hash\.cpp$",
    r"nlohmann/(?!json_fwd)": r"\.cpp$",
    r"(gtest|gmock)/": r"(?!)",
}
CPP = {".cpp", ".h"}
LIMITS = {"function_p95": 40, "function_max": 80, "file_p95": 400, "file_max": 500}
# Written in two parts so that this file does not break its own rule.
MARKS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE = re.compile(r"(?<![\w.$}-])/(work|root|home|Users|mnt|tmp/build)[/\w-]*\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)


def files_of(root, folders, suffixes=None):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                if suffixes is None or path.suffix in suffixes:
                    yield path


def check_includes(root):
    for path in files_of(root, ["src"], CPP):
        place = path.relative_to(root / "src").as_posix()
        room = place.split("/")[0]
        if room not in ROOMS:
            yield f"src/{place}: '{room}' is not a room"
            continue
        for quote, header in INCLUDE.findall(path.read_text()):
            if quote == '"':
                other = header.split("/")[0]
                if other not in ROOMS or "/" not in header:
                    yield f'src/{place}: include "{header}" must start with a room'
                elif ROOMS.index(other) > ROOMS.index(room):
                    yield f'src/{place}: room {room} must not include "{header}" to its right'
                elif not (root / "src" / header).is_file():
                    yield f'src/{place}: include "{header}" does not exist'
            for vendor, allowed in VENDORS.items():
                if re.match(vendor, header) and not re.search(allowed, place):
                    yield f"src/{place}: <{header}> is not allowed here"


def blank(text):
    """The text with comments, literals and preprocessor lines blanked, lines kept."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"'
                         r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'|^[ \t]*#(?:\\\n|[^\n])*",
                         re.S | re.M)
    return pattern.sub(lambda m: "\n" * m.group(0).count("\n") or " ", text)


SCOPE = re.compile(r"\b(namespace|class|struct|union|enum)\b|extern\s*$")


def functions(text):
    """(first line, number of lines) of every outermost function body: a brace that opens behind a
    closing parenthesis and is not inside another body. Counted from the line of its head."""
    text = blank(text)
    found, stack, head, line, inside = [], [], 0, 1, 0
    for at, c in enumerate(text):
        if c == "\n":
            line += 1
        elif c == "{":
            before = text[head:at]
            is_body = inside == 0 and "(" in before and not SCOPE.search(before.split("(")[0])
            if is_body:
                start = line - before.lstrip().count("\n")
                stack.append(start)
                inside = len(stack)
            else:
                stack.append(None)
            head = at + 1
        elif c == "}":
            start = stack.pop() if stack else None
            if start is not None:
                found.append((start, line - start + 1))
                inside = 0
            head = at + 1
        elif c == ";":
            head = at + 1
    return found


def percentile95(values):
    values = sorted(values)
    return values[max(0, -(-95 * len(values) // 100) - 1)] if values else 0


def check_sizes(root):
    bodies, lengths = [], []
    for path in files_of(root, ["src", "tests"], CPP):
        text = path.read_text()
        place = path.relative_to(root).as_posix()
        lines = text.count("\n")
        lengths.append(lines)
        if lines > LIMITS["file_max"]:
            yield f"{place}: {lines} lines, at most {LIMITS['file_max']}"
        for start, size in functions(text):
            bodies.append(size)
            if size > LIMITS["function_max"]:
                yield f"{place}:{start}: a function of {size} lines, at most {LIMITS['function_max']}"
    for name, values in (("function", bodies), ("file", lengths)):
        p95 = percentile95(values)
        print(f"{len(values)} {name}s: 95th percentile {p95} lines, longest {max(values, default=0)}")
        if p95 > LIMITS[name + "_p95"]:
            yield f"95th percentile of {name} lengths is {p95}, at most {LIMITS[name + '_p95']}"


def check_words(root):
    for path in files_of(root, ["src", "launch", "tests"]):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a binary fixture
        place = path.relative_to(root).as_posix()
        if path.resolve() == pathlib.Path(__file__).resolve():
            continue
        for number, line in enumerate(text.splitlines(), 1):
            for rule, what in ((MARKS, "unfinished mark"), (MACHINE, "machine path")):
                match = rule.search(line)
                if match:
                    yield f"{place}:{number}: {what} '{match.group(0)}'"


def check(root):
    violations = []
    for rule in (check_includes, check_sizes, check_words):
        violations += rule(root)
    return violations


def self_test():
    lines = "  call();\n"
    cases = [  # (file, text, part of the violation or None)
        ("src/base/a.cpp", '#include "tensor/t.h"\n', "to its right"),
        ("src/tensor/a.cpp", '#include "base/gone.h"\n', "does not exist"),
        ("src/tensor/a.cpp", '#include "base/b.h"\n', None),
        ("src/tensor/a.cpp", '#include "b.h"\n', "start with a room"),
        ("src/kitchen/a.cpp", "", "not a room"),
        ("src/comm/solo.cpp", "#include <mpi.h>\n", "not allowed"),
        ("src/comm/mpi.cpp", "#include <mpi.h>\n", None),
        ("src/device/device.cpp", "#include <oneapi/dnnl/dnnl.hpp>\n", "not allowed"),
        ("src/device/cpu/a.cpp", "#include <oneapi/dnnl/dnnl.hpp>\n", None),
        ("src/data/a.h", "#include <nlohmann/json.hpp>\n", "not allowed"),
        ("src/data/a.h", "#include <nlohmann/json_fwd.hpp>\n", None),
        ("src/data/a.cpp", "#include <hdf5.h>\n", "not allowed"),
        ("src/base/a.cpp", "void f() {\n" + lines * 79 + "}\n", "a function of 81 lines"),
        ("src/base/a.cpp", "int A::f(\n  int x)\n  const {\n" + lines * 77 + "}\n", "of 81 lines"),
        ("src/base/a.cpp", "namespace n {\nstruct S {\n void f() {\n  if (x) {\n" + lines * 77
         + "  }\n }\n};\n}\n", "a function of 81 lines"),
        ("src/base/a.cpp", "void f() {\n" + lines * 39 + "}\n", "function lengths is 41"),
        ("src/base/a.cpp", "void f() {\n" + lines * 38 + "}\n", None),
        ("src/base/a.cpp", "struct S {\n" + "  int x;\n" * 90 + "};\n", None),
        ("src/base/a.cpp", "// void f() {\n" + lines * 90, None),
        ("src/base/a.cpp", "\n" * 501, "501 lines"),
        ("tests/a_test.cpp", "\n" * 401, "file lengths is 401"),
        ("tests/a_test.cpp", "\n" * 400, None),
        ("src/base/a.cpp", "// TO" "DO: later\n", "unfinished mark"),
        ("launch/go", "cd /ro" "ot/x\n", "machine path"),
        ("launch/go", 'cd "$here/root/x"\n', None),
        ("tests/system/a.py", "x = '/wo" "rk/y'\n", "machine path"),
    ]
    failures = 0
    for name, text, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, content in (("src/base/b.h", ""), ("src/tensor/t.h", ""), (name, text)):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(content)
            got = check(root)
            good = not got if expected is None else any(expected in v for v in got)
            if not good:
                failures += 1
                print(f"FAILED {name}: expected {expected!r}, got {got}\n{text[:200]}")
    print(f"{len(cases)} cases, {failures} failures")
    return 1 if failures else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) != 1 or not (pathlib.Path(arguments[0]) / "src").is_dir():
        print(__doc__)
        return 2
    violations = check(pathlib.Path(arguments[0]))
    for violation in violations:
        print(violation)
    print(f"{len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
