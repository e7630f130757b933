"""Reference atlases: curated, labelled, de-identified cases, and the search in them.

An atlas is a folder with a digest. `building` makes it, `opened` answers from it,
`removal` takes cases out of it. Live cases are never part of one.
"""
