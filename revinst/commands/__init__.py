"""One module for each `revinst` command: it wires the stages together and adds no logic of its own."""
