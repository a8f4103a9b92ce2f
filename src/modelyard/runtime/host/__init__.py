"""What runs inside a model's own environment. It imports nothing of Modelyard but this folder.

The folder is started as a program by ``runtime/python.py`` (see ``__main__.py``) with the Python of the model's
environment, and is imported as a package while packing, so that both build a model's input and read its answer with
the same lines. Schemas come in as plain data: dicts and lists as JSON carries them.
"""
