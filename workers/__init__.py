"""The GPU side: model, decode, preprocess, embed, classify, conclude."""
