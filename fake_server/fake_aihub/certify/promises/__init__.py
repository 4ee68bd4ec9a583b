"""The promises that certify tries, a module for each group."""
