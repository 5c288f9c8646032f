"""Checksum every file of the running Python's standard library, in parallel.

The parallel answer is checked against the serial one; the exit status is 1 if they differ.
Byte-code caches are left out, because Python rewrites them, and so are installed packages.
"""

import hashlib
import os
import sys
import sysconfig
import time

from pcall import pcall

NOT_OURS = {"__pycache__", "site-packages", "dist-packages"}


def files_below(folder):
    """The paths of all regular files, in a fixed order."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - NOT_OURS)
        paths = (os.path.join(place, name) for name in sorted(names))
        found += (path for path in paths if os.path.isfile(path))
    return found


def checksum(paths):
    """For each path its size and its SHA-256."""
    result = {}
    for path in paths:
        with open(path, "rb") as file:
            content = file.read()
        result[path] = len(content), hashlib.sha256(content).hexdigest()
    return result


def summary(sums):
    """How many files, how many bytes, and one digest over them all."""
    total = hashlib.sha256()
    for path in sorted(sums):
        total.update(f"{sums[path][1]} {path}\n".encode(errors="surrogateescape"))
    return len(sums), sum(size for size, _ in sums.values()), total.hexdigest()


def main():
    library = sysconfig.get_path("stdlib")
    paths = files_below(library)
    checksum(paths)  # once unmeasured, so that both find the files in the page cache

    begin = time.perf_counter()
    serial = summary(checksum(paths))
    serial_seconds = time.perf_counter() - begin

    # A process for every file would be most of the work. So each core gets a share of the files,
    # dealt from the largest to the smallest.
    begin = time.perf_counter()
    cores = os.cpu_count() or 1
    by_size = sorted(paths, key=os.path.getsize, reverse=True)
    parts = pcall(checksum, paths=[by_size[core::cores] for core in range(cores)])
    merged = {path: entry for part in parts for path, entry in part.items()}
    parallel = summary(merged)
    parallel_seconds = time.perf_counter() - begin

    files, size, digest = parallel
    print(f"library   {library}")
    print(f"files     {files}")
    print(f"bytes     {size}")
    print(f"sha-256   {digest}")
    print(f"serial    {serial_seconds:.3f} s")
    print(f"parallel  {parallel_seconds:.3f} s in {cores} processes")
    if parallel != serial:
        sys.exit(f"the serial answer differs: {serial}")
    print("the serial answer is the same")


if __name__ == "__main__":
    main()
