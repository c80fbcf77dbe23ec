"""What a run leaves for people: one HTML page, and its charts as PNG."""
