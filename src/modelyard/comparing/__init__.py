"""What differs between two versions of a model, and between what they answer."""
