"""Child processes that end with their parent, and what embedded servers share. Knows no driver and no capability."""
