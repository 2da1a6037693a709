"""The reduction: rows from anywhere become a triangular factor, and what follows from that."""
