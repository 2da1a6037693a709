"""What a fit hands back."""
