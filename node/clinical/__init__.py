"""The clinical row of a patient: where it comes from and whether it is the right one."""
