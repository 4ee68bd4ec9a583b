"""The promises that certify checks, one module per group."""
