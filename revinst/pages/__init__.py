"""Pages of `revinst demo`, on this machine alone."""
