"""What a config will cost."""
