"""`python -m graphopt` is `graphopt`."""

from graphopt.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
