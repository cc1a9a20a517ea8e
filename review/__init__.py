"""What people read before they approve: previews, plans and drift in words; nothing of it goes to a node."""
