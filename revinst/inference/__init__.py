"""What a trained run does with texts."""
