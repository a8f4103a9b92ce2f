"""What goes into the training program's own process. It imports the standard library and nothing else."""
