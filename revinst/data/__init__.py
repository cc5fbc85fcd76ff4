"""Text to batches. Knows nothing of models: the only link is the base's tokenizer."""
