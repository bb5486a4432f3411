"""XML text and save-image bytes to values and back. Pure."""
