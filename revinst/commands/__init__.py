"""One module for each `revinst` command: it parses, calls and prints, and adds no logic of its own.

`options` has what several take.
"""
