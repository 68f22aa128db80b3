"""The report on paper: pages, their pictures, and the Encapsulated PDF object."""
