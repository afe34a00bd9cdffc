"""The dashboard. Nothing is computed here: every number on a page comes from a Result."""
