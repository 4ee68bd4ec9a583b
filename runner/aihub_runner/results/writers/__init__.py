"""Writers for the formats of tables."""
