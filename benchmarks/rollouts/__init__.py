"""How often rollouts are judged wrongly, and how soon rightly."""
