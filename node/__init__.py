"""The DICOM node: receive, assemble, assess, report, deliver."""
