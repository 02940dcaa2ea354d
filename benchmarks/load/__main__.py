"""Command line of the load generator: `python -m benchmarks.load --help`."""

import sys
from collections.abc import Sequence

from .options import read_options
from .runner import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once; exit status 0 if every requirement passed, 1 if one failed or the engine did not start."""
    try:
        return Run(read_options(sys.argv[1:] if arguments is None else arguments)).execute()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
