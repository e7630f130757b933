"""The chest pack's files: a small model of real chest radiographs, for demonstration only."""
