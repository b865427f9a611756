"""Results printed in a terminal."""
