"""Figures: one function a figure, DataFrames in, a matplotlib Figure out."""
