"""What people read before they say yes: previews, plans and drift in words; nothing of it goes to a node."""
