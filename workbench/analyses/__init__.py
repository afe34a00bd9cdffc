"""The analyses, one file each; the file name is the name of the analysis everywhere."""
