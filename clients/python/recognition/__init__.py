"""The contract of the mutual-recognition gateway, as generated code."""
