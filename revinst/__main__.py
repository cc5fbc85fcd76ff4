"""`python -m revinst`: the `revinst` command."""

from revinst.cli import main

if __name__ == "__main__":
    main()
