"""The recipes in cluster/ that are not proved with their own tools: at least their syntax is right.

  recipes.py ROOT    checks cluster/spack.yaml, cluster/modulefile and cluster/apptainer.def of ROOT
                     and that each check finds a fault put into the file; exit 77 where a tool is missing
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

try:
    import yaml
except ImportError:
    yaml = None

# What Environment Modules and Lmod define beside Tcl itself, as far as a module file needs it.
MODULE_COMMANDS = """
foreach name {module-whatis prereq conflict setenv prepend-path append-path module} {
  proc $name {args} "puts \\"$name \\$args\\""
}
source [lindex $argv 0]
ModulesHelp
"""
SECTIONS = {"files", "post", "environment", "runscript", "labels", "help", "test", "setup"}


def check_spack(path):
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        return str(error)
    if not isinstance(content, dict) or list(content) != ["spack"]:
        return "the first level is not 'spack' alone"
    specs = content["spack"].get("specs")
    name = re.compile(r"^[a-z0-9-]+([@~+ ][\w@:.=+~ -]*)?$")
    for spec in specs or ["none at all"]:
        if not isinstance(spec, str) or not name.match(spec):
            # Such as openmpi@4.1: +pmi without quotes, where the colon makes a mapping of it.
            return f"{spec!r} is no spec"
    return ""


def check_module(path):
    if not path.read_text().startswith("#%Module"):
        return "does not begin with #%Module"
    with tempfile.NamedTemporaryFile("w", suffix=".tcl") as script:
        script.write(MODULE_COMMANDS)
        script.flush()
        done = subprocess.run(["tclsh", script.name, path], capture_output=True, text=True)
    if done.returncode:
        return done.stderr
    return "" if "prepend-path PATH /" in done.stdout else "puts no folder in PATH"


def check_apptainer(path):
    head, *parts = re.split(r"^%(\w+)[^\S\n]*\n", path.read_text(), flags=re.M)
    keys = dict(re.findall(r"^(\w+): *(\S+)$", head, flags=re.M))
    if set(keys) != {"Bootstrap", "From"}:
        return f"the header has {sorted(keys)} instead of Bootstrap and From"
    bodies = dict(zip(parts[::2], parts[1::2]))
    if unknown := set(bodies) - SECTIONS:
        return f"unknown sections {sorted(unknown)}"
    for name in ("post", "runscript"):
        if name not in bodies:
            return f"there is no %{name}"
        done = subprocess.run(["sh", "-n"], input=bodies[name], capture_output=True, text=True)
        if done.returncode:
            return f"%{name}: {done.stderr}"
    return ""


# File, check, what it needs, and faults: (text, what stands for it).
CASES = [
    ("spack.yaml", check_spack, yaml, "PyYAML",
     [("  specs:", "\tspecs:"), ("- cmake", "- cmake: 3"), ("spack:", "spac:")]),
    ("modulefile", check_module, shutil.which("tclsh"), "tclsh",
     [("#%Module1.0", "# Module"), ("$root/build", "$rot/build"), ("module-whatis", "module-whatsi")]),
    ("apptainer.def", check_apptainer, True, "",
     [("Bootstrap:", "Bootstrop:"), ("%post", "%pots"), ("exec cohort \"$@\"", "exec cohort \"$@")]),
]


def main():
    folder = pathlib.Path(sys.argv[1]) / "cluster"
    failed, missing = False, []
    for name, check, tool, tool_name, faults in CASES:
        if not tool:
            missing.append(f"{name} was not checked: {tool_name} is not installed")
            continue
        path = folder / name
        if why := check(path):
            print(f"FAILED: cluster/{name}: {why}")
            failed = True
        for right, wrong in faults:
            with tempfile.TemporaryDirectory() as other:
                damaged = pathlib.Path(other) / name
                text = path.read_text()
                assert right in text, f"{name} has no {right!r} to damage"
                damaged.write_text(text.replace(right, wrong))
                if not check(damaged):
                    print(f"FAILED: cluster/{name}: {wrong!r} for {right!r} is not found")
                    failed = True
    if failed:
        return 1
    print("Skipped: " + "; ".join(missing) if missing else "recipes passed")
    return 77 if missing else 0


sys.exit(main())
