"""Documents, notes and blogs, each kind read by a file here; `find` knows which is for what."""
