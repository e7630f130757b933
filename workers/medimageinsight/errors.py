"""What goes wrong with the files of a model."""

from dicom_node.errors import Permanent


class CheckpointError(Permanent):
    """The weights or the tokenizer of a model are not what they should be."""
