"""The command line: parses and prints, and leaves the work to the library.

Starting it imports no model library; each command is imported when it is called.
"""

from graphopt.cli._main import main

__all__ = ["main"]
