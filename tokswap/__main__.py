"""``python -m tokswap``, and the command ``tokswap``.

An interrupt must end the program quietly from the first moment, while the command line itself is
still being imported.
"""

import sys


def main() -> None:
    """Run the command line."""
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
