"""Shortcuts: what predicts a label and should not, and what is left without it.

`describe_images` says what is known of images beside their anatomy; `look` fits a probe
to each family of it, on the folds of the model that is judged, matches samples for the
strongest, and applies the rule of `workers.shortcuts.verdict`.
"""
