"""From an exported cohort to a released model."""
