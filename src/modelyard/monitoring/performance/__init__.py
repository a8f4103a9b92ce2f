"""How good a deployment's answers were, once labels have come: by window, by slice, against what was promised."""
