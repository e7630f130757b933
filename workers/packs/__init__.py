"""Packs that ship with pacsight, each a folder of plain files."""
