"""Prepared datasets: the contract, the sources that fill it, and the stage that writes it."""
