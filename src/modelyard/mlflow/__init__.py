"""Coming from MLflow and going back: models, runs and registered models, read without MLflow being installed."""
