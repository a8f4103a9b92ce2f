"""Moving versions with all that they need from one home to another, directly or as a file."""
