"""Callbacks: what happens beside training steps, and after the views of a test."""
