"""The configuration: typed models, their validation, and what the workflow derives from them."""
