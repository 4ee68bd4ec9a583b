"""What this machine offers and lacks: clocks, streams, signals, room, what is installed."""
