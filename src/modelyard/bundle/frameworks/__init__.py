"""One adapter file a framework, found through entry points."""
