"""What gateways are told to serve: the snapshot."""
