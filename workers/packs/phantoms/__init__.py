"""The demo pack's files: a small model of synthetic phantoms, for demonstration only."""
