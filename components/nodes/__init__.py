"""Components that make machines nodes."""
