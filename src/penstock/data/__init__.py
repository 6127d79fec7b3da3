"""Files that ship with Penstock: the embedded model and the handbook corpus. Holds no code."""
