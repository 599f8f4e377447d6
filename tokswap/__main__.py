"""``python -m tokswap``."""

from tokswap.cli import main

if __name__ == "__main__":
    main()
