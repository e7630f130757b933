"""The settings: one frozen value, read once from ``pacsight.toml`` and ``PACSIGHT_*``.

The environment wins over the file. Importing this package reads nothing: only
`load_settings` looks at the file and the environment. Every setting stands in
``docs/settings.md``.
"""

from dicom_node.config.masking import masked
from dicom_node.config.reading import load_settings
from dicom_node.config.settings import Settings, setting_names

__all__ = ["Settings", "load_settings", "masked", "setting_names"]
