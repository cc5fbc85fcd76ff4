"""Instructions for texts, and log-probabilities of given instructions."""
