"""Results as DICOM objects. No I/O."""
