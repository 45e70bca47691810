"""Stand-ins for peers, scripted by tests."""
