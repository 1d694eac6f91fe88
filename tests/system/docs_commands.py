"""Runs every command of README.md and docs/*.md as a reader would, in a scratch copy.

  docs_commands.py COHORT SOURCE_FOLDER MPIEXEC

The fenced ```sh blocks of a page run in order, in one shell that stops at the first failure. Before
the first page, stand_in() leaves what ./launch/quickstart would have left, only smaller. A comment
before a block keeps it from being run; both kinds are counted and printed:

  <!-- not run: REASON -->        cannot run here
  <!-- tested by: PATH -->        too heavy here; the file that tests the same

A line that starts a command of this project in any other code block is an error, unless the block is
marked ```text: it would look like something to type, and nobody would have tried it.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

COMMAND = re.compile(r"^\s*(\$ )?(\./)?(cohort|mpirun|mpiexec|srun|cmake|ctest|build/cohort|launch/\w+)\b")
MARK = re.compile(r"^<!-- (not run|tested by): (.+) -->$")
SECONDS = 150   # of one page; a hang is a failure


class Block:
    def __init__(self, page, line, mark):
        self.page, self.line, self.mark, self.text = page, line, mark, ""


def blocks_of(page, text, complain):
    """The ```sh blocks. Indented code and fences of other kinds must hold no commands."""
    found, fence, mark = [], None, None
    for number, line in enumerate(text.splitlines(), 1):
        if fence is None and line.startswith("```"):
            fence = line[3:].strip() or "nothing"
            if fence == "sh":
                found.append(Block(page, number, mark))
            mark = None
        elif fence is not None and line.startswith("```"):
            fence = None
        elif fence == "sh":
            found[-1].text += line + "\n"
        elif fence != "text" and (fence or line.startswith("    ")) and COMMAND.match(line):
            complain(f"{page}:{number}: a command outside of a ```sh block: {line.strip()}")
        else:
            match = MARK.match(line)
            mark = (match[1], match[2]) if match else mark if not line.strip() else None
    if fence is not None:
        complain(f"{page}: a fence is not closed")
    return found


def run(script, scratch, environment):
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=scratch, text=True,
                          env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=SECONDS)
    return done.returncode, done.stdout


def stand_in(cohort, mpiexec, source, scratch, environment):
    for folder in ("configs", "shards", "launch"):
        shutil.copytree(source / folder, scratch / folder,
                        ignore=shutil.ignore_patterns("raw", "out"))
    (scratch / "build").mkdir()
    (scratch / "build" / "cohort").symlink_to(cohort)
    (scratch / "build" / "CMakeCache.txt").write_text(f"MPIEXEC_EXECUTABLE:FILEPATH={mpiexec}\n")
    steps = ["cohort shard --demo shards/raw"]
    steps += [f"cohort shard shards/demo-{name}.yaml" for name in ("behavior", "sentiment")]
    steps += [f"cohort train configs/{name}.yaml train.epochs=1" for name in
              ("behavior-rnn", "sentiment-cnn")]
    print("stand-in for ./launch/quickstart:", "; ".join(steps))
    code, said = run("\n".join(steps), scratch, environment)
    if code:
        sys.exit(f"the stand-in for ./launch/quickstart failed:\n{said}")


def page_script(blocks):
    script = ""
    for block in blocks:
        script += f"echo '@ {block.page}:{block.line}'\n{block.text}\n"
    return script


def run_page(blocks, scratch, environment):
    """Runs the unmarked blocks; how many did, and what went wrong."""
    todo = [b for b in blocks if not b.mark]
    code, said = run(page_script(todo), scratch, environment)
    if code == 0:
        return len(todo), None
    where = [line[2:] for line in said.splitlines() if line.startswith("@ ")][-1]
    return 0, f"{where}: the block failed with exit code {code}:\n{said[-3000:]}"


def main():
    cohort, source, mpiexec = (pathlib.Path(p) for p in sys.argv[1:4])
    problems, ran, marked = [], 0, []
    environment = dict(os.environ, PATH=f"{mpiexec.parent}:{os.environ['PATH']}")
    pages = [source / "README.md"] + sorted((source / "docs").rglob("*.md"))
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        environment["PATH"] = f"{scratch / 'build'}:{environment['PATH']}"
        stand_in(cohort.resolve(), mpiexec, source, scratch, environment)
        for page in pages:
            name = page.relative_to(source).as_posix()
            blocks = blocks_of(name, page.read_text(), problems.append)
            marked += [b for b in blocks if b.mark]
            count, problem = run_page(blocks, scratch, environment)
            ran += count
            problems += [problem] if problem else []
    for block in marked:
        kind, why = block.mark
        print(f"{kind}: {block.page}:{block.line}: {why}")
        if kind == "tested by" and not (source / why.split()[0]).exists():
            problems.append(f"{block.page}:{block.line}: there is no {why.split()[0]}")
    for picture in (source / "docs").rglob("*.svg"):
        xml.etree.ElementTree.parse(picture)
    print("\n".join(problems))
    print(f"{ran} blocks ran, {len(marked)} marked, {len(problems)} problems, {len(pages)} pages")
    return 1 if problems or ran < 3 else 0


if __name__ == "__main__":
    sys.exit(main())
