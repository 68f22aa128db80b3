"""Everything that speaks DICOM: listener, sender, headers, volumes, masks."""
