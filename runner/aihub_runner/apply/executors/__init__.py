"""Where uploads are sent from, beyond this process."""
