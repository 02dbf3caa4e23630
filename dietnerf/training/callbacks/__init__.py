"""What happens beside the steps of a training, and after the views of a test."""
