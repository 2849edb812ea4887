"""How rows reach the ranks of a run on Ray."""
