"""Arrays in, numbers out: volumes, phases, segmentation, radiomics, networks, survival models. No DICOM, no network, no clock."""
