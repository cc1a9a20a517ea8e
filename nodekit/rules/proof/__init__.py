"""Rules of the proof: the ladder, and what a guest's console says."""
