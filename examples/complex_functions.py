"""Find the most complex functions of the running Python's standard library, in parallel.

Each file is parsed, and in each function the branches are counted (McCabe's measure: a function
without a branch has 1). The same is done serially for comparison; the exit status is 1 if the
answers differ.
"""

import ast
import os
import sys
import sysconfig
import time
import warnings

from pcall import Pcall

LEFT_OUT = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.comprehension)
BRANCHES = (ast.If, ast.IfExp, ast.ExceptHandler, ast.match_case, ast.Assert, *LOOPS)


def python_files(folder):
    """The paths of all modules below a folder, in a fixed order."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        found += [os.path.join(place, name) for name in sorted(names) if name.endswith(".py")]
    return found


def complexity(function):
    """One, and one for each branch in the function."""
    count = 1
    for node in ast.walk(function):
        if isinstance(node, BRANCHES):
            count += 1
        elif isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
    return count


def measure(path):
    """For each function of a file: its complexity, the file, the line and the name."""
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd literals in old modules
        tree = ast.parse(file.read(), path)
    functions = (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))
    return [(complexity(node), path, node.lineno, node.name) for node in functions]


def main():
    library = sysconfig.get_path("stdlib")
    paths = python_files(library)
    print(f"{len(paths)} files of {library}")

    begin = time.perf_counter()
    serial = [measure(path) for path in paths]
    serial_time = time.perf_counter() - begin
    print(f"serial    {serial_time:.2f} s")

    begin = time.perf_counter()
    parallel = Pcall.options(max_tasks_per_child=None).pcall(measure, path=paths)
    parallel_time = time.perf_counter() - begin
    print(f"parallel  {parallel_time:.2f} s on {os.cpu_count()} cores")
    print(f"ratio     {serial_time / parallel_time:.1f}")

    functions = sorted((entry for entries in parallel for entry in entries), reverse=True)
    print(f"\nthe most complex of {len(functions)} functions:\n")
    for count, path, line, name in functions[:10]:
        print(f"{count:5}  {name:32} {os.path.relpath(path, library)}:{line}")
    if list(parallel) != serial:
        sys.exit("the serial answer differs")


if __name__ == "__main__":
    main()
