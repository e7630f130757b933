"""Heads on frozen embeddings: fitted, chosen and calibrated without their test patients."""
