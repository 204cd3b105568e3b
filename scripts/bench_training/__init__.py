"""Training steps of Espalier and PyTorch by turns; scripts/bench-training calls it."""
