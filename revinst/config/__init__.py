"""Config files and typed settings."""
