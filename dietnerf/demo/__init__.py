"""The demo page: shows trained scenes in a browser."""
