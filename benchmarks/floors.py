"""What nothing can go below: a program of its own for each floor, that imports no more than it needs.

``python benchmarks/floors.py stat FOLDER`` lists a tree and takes the stat of every file;
``python benchmarks/floors.py events FOLDER [PROCESSES]`` has libyaml parse every file and does nothing
with the events, each process its share of the files.
"""

from __future__ import annotations

import gc
import os
import sys


def files(folder: str) -> list[tuple[str, int]]:
    """Path and size of every file below a folder."""
    found = []
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    found.append((entry.path, entry.stat().st_size))
    return found


def events(paths: list[tuple[str, int]]) -> int:
    from yaml._yaml import CParser

    gc.disable()  # as the program does where it reads; nothing is kept here either
    count = 0
    for path, _ in paths:
        with open(path, "rb") as file:
            parser = CParser(file.read())
        while parser.get_event() is not None:
            count += 1
    return count


def main() -> None:
    kind, folder = sys.argv[1:3]
    found = files(folder)
    if kind == "stat":
        print(len(found))
        return
    processes = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    children = []
    for share in range(1, processes):
        child = os.fork()
        if not child:
            try:
                events(found[share::processes])
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    print(events(found[::processes]))
    for child in children:
        if os.waitpid(child, 0)[1]:
            sys.exit("a share of the files was not parsed")


if __name__ == "__main__":
    main()
