"""Training of target models: prepared dataset, recipe and model numbers in, confidences out."""
