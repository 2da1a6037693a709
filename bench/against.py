"""Compares the speed of this checkout with that of another sgdm: `python -m bench.against OTHER`, in the root folder.

Each sgdm is installed into its own folder and runs in its own process. The two processes take turns, call by call. They
are started anew for each of GROUPS groups: a process may be some percent slower, depending on its memory addresses.
SGDM_ISA=v3 in the environment holds both to a lower CPU level. The exit status is 1 if this checkout is slower by more
than the tolerance in all groups of some problem.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from .report import duration, markdown, ratio  # also limits BLAS to one thread in the processes started here
from .rounds import GROUPS, compare, noise_warning, warm_up

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-3  # of the largest coefficient, in float32 too: the two sides have solved the same problem


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.against", description=__doc__)
    parser.add_argument("other", help="a checkout, a wheel, or a requirement for pip: sgdm==0.1.0, git+file://...@tag")
    parser.add_argument("-k", metavar="PART", default="", help="only problems with this in their name, like 1000x1000")
    parser.add_argument("--tolerance", type=float, default=0.05, help="0.05, the default, allows 5 %% more time")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        sources = {"this": ROOT, "other": options.other}
        folders = {side: install(source, Path(scratch, side)) for side, source in sources.items()}
        times, left_out = take_turns(folders, options.k)
    if not times and not left_out:
        parser.error(f"no problem has {options.k!r} in its name")
    print(markdown(["problem", "this", "other", "this / other"]), markdown(["---", "---:", "---:", "---:"]), sep="\n")
    slower = []
    for title, seconds in times.items():
        this, other = (np.array(seconds[side]) for side in folders)
        measured = compare(this, other)
        print(markdown([title, duration(this.min()), duration(other.min()), ratio(measured)]))
        if measured["spread"][0] > 1 + options.tolerance:
            slower.append(title)
    level = os.environ.get("SGDM_ISA") or "the highest"
    legend = f"Least times of a call, CPU level: {level}; in brackets the ratios' range over pairs of processes."
    print(f"\n{legend}{noise_warning()}")
    for title, reason in left_out.items():
        print(f"Not compared: {title}: {reason}.")
    for title in slower:
        print(f"Slower by more than {options.tolerance:.0%}: {title}.")
    return 1 if slower else 0


def install(source, folder):
    """Install a package without its dependencies into the folder."""
    path = Path(source)
    local = path.suffix == ".whl" or (path / "pyproject.toml").exists()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if subprocess.run([*pip, "--target", folder, path.resolve() if local else source]).returncode:
        sys.exit(2)  # pip has printed the reason
    return folder


def take_turns(folders, part):
    """By title of the problem: the seconds of each side's calls, and the reasons why problems are left out."""
    times, left_out = {}, {}
    for group in range(GROUPS):
        print(f"pair {group + 1} of {GROUPS}", file=sys.stderr)
        with ExitStack() as stack:
            sides = {name: stack.enter_context(start(folder)) for name, folder in folders.items()}
            for name, title, rounds in ask(sides["this"], "problems"):
                if part not in name or title in left_out:
                    continue
                answers = {side: ask(process, name) for side, process in sides.items()}
                if reason := difference(answers):
                    left_out[title] = reason
                    continue
                calls = times.setdefault(title, defaultdict(list))
                for turn in range(rounds // GROUPS):
                    for side in sorted(sides, reverse=turn % 2):
                        calls[side].append(ask(sides[side], "time"))
    return times, left_out


def difference(answers):
    """Why two sides can't be compared: an error, or other coefficients. None if they can."""
    for side, answer in answers.items():
        if isinstance(answer, str):
            return f"{side} says {answer}"
    this, other = map(np.array, answers.values())
    return None if np.abs(this - other).max() <= TOLERANCE * np.abs(this).max() else "the coefficients differ"


def start(folder):
    """Start a process that uses the package in the folder."""
    command = [sys.executable, "-P", "-c", f"from {__spec__.parent}.against import work; work()", folder]
    path = os.pathsep.join(map(str, (folder, ROOT)))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, **pipes)


def ask(process, line):
    """Send a line to `work` in a process, and return its answer."""
    print(line, file=process.stdin, flush=True)
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"the process with {process.args[-1]} ended when asked for {line!r}")
    return json.loads(answer)


def work():
    """Answer each line of stdin: "problems" with the list of problems; the name of a problem, after setting it up, with
    its coefficients; "time" with the seconds of one call."""
    import sgdm

    from .problems import ALL_PROBLEMS

    if not Path(sgdm.__file__).resolve().is_relative_to(Path(sys.argv[1]).resolve()):
        raise RuntimeError(f"sgdm was found in {sgdm.__file__}, not in {sys.argv[1]}")
    problems = {str(problem): problem for problem in ALL_PROBLEMS}
    fit = None
    for line in map(str.strip, sys.stdin):
        if line == "problems":
            answer = [(name, problem.title, problem.rounds) for name, problem in problems.items()]
        elif line == "time":
            warm_up(fit)
            begin = perf_counter()
            fit()
            answer = perf_counter() - begin
        else:
            fit = None  # frees the data of the last problem
            try:
                fit = problems[line].ours(*problems[line].data())
                answer = fit().coef.ravel().tolist()
            except (AttributeError, TypeError) as error:  # an older release lacks this function or option
                answer = str(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(main())
