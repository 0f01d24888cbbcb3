"""Comparisons between audited experiments."""
