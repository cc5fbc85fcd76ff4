"""From somebody's own texts to an instruction data set: ingest, redact, candidates, filters, split, files."""
