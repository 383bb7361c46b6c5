"""W&B: GraphQL, run files, artifacts, keys."""
