"""Membership inference: the confidence score, and aggregate attacks on whole target models."""
