"""Who may do what: keys, roles and permissions."""
