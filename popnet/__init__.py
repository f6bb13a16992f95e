"""popnet trains populations of small neural networks, bit for bit reproducibly, and says what varies and why."""
