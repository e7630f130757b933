"""The node: takes instances in, remembers them, forms work, sends results out."""
