"""The sync backend for files that people and coding agents edit together, over plain HTTP."""
