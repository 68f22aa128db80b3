"""The sections of the report, one file a subject; each function lays one section out."""
