"""The demo page: trained scenes to look at in a browser."""
