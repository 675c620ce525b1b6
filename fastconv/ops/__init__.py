"""The operations on ndarrays: argument checks, geometry, and the public functions."""
