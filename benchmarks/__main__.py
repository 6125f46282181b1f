"""Every benchmark of planning, one after another: ``python -m benchmarks [--full] [--write]``.

Without ``--full`` in sizes that take a few minutes; those of applying and of reports are run by themselves.
"""

from __future__ import annotations

import argparse

from benchmarks import growth, identical, planning, rivals, startup

SHORT = {
    startup.main: "--rounds 10",
    planning.main: "--profiles 20000 --rounds 3 --layouts small,many,deep",
    identical.main: "--profiles 10000",
    growth.main: "--sizes 1000,10000,100000 --rounds 2",
    rivals.main: "--sizes 10000 --rounds 2",
}
FULL = {
    startup.main: "--rounds 30",
    planning.main: "--profiles 100000 --rounds 5 --layouts small,many,deep",
    identical.main: "--profiles 100000",
    growth.main: "--sizes 1000,10000,100000,1000000 --rounds 3",
    rivals.main: "--sizes 10000,50000 --rounds 3",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--full", action="store_true", help="In the sizes that the targets name.")
    options.add_argument("--write", action="store_true", help="Write the results into RESULTS.md.")
    options.add_argument("--folder", help="Where corpora and states are kept meanwhile.")
    given = options.parse_args()
    common = ["--write"] * given.write + (["--folder", given.folder] if given.folder else [])
    for run, settings in (FULL if given.full else SHORT).items():
        run([*settings.split(), *common])


if __name__ == "__main__":
    main()
