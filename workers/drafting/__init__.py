"""Packs made by hand, and looked at: drafts, what became of them, and how two differ.

`draft` writes a folder to fill in, `building` makes a pack of it; `showing` says what a
pack asks and on which evidence, `difference` what tells two packs apart.
"""
