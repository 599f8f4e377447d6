"""``python -m tokswap``, and the command ``tokswap``.

An interrupt must end the program quietly from the first moment, while the command line itself is
still being imported.
"""

import os
import sys

from tokswap.garbage import collect_seldom


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: Always, with the exit code.
    """
    collect_seldom()
    try:
        _run()
    except SystemExit as stop:
        from tokswap import ranks

        if ranks.alone():
            raise
        # One of several: what gloo's threads leave behind sometimes aborts Python's own end, and
        # all is written by now.
        if isinstance(stop.code, str):
            sys.stderr.write(f"{stop.code}\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(stop.code if isinstance(stop.code, int) else int(stop.code is not None))


def _run() -> None:
    try:
        from tokswap.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        from tokswap.ranks import number

        if not number():  # the first rank speaks for all
            sys.stderr.write("interrupted; nothing unfinished was kept\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
