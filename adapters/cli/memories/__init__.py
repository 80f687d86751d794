"""What the actions of ``rxt memory`` do."""
