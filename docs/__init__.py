"""Documentation; `docs.generate` writes its generated part."""
