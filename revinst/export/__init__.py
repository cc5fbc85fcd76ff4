"""What leaves the house: merged models, GGUF files, cards, uploads."""
