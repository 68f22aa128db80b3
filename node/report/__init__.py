"""From an assessment to the objects a radiologist reads: SEG, SR, PDF, and report.json."""
