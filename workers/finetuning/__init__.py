"""End-to-end fine-tuning of a pack's encoder, from images with texts or labels."""
