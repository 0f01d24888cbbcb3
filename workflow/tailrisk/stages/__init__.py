"""The stages as the workflow runs them: each reads its inputs, calls the stage's functions, and writes its outputs."""
