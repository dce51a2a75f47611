"""`ci/gpu`: checks a device's health and correctness, times training steps and projects costs; saves each result."""
