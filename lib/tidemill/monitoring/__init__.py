"""What is watched after deployment."""
