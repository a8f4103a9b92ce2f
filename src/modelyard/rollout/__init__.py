"""Rollouts: who gets which version, what the answers show, and what is done next."""
