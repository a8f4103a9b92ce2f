"""Dataset versions: immutable snapshots of files, stored once by content, given back byte by byte."""
