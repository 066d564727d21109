"""The contract of the mutual-recognition gateway, as generated code in ``v1``; ``evidence`` needs none of it."""
