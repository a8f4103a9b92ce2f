"""What a model's performance is likely to be where no labels are known yet, and whether that can be believed."""
