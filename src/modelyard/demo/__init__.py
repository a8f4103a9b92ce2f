"""The whole story on the flights data."""
