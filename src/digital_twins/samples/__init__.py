"""Sample patients made from real, openly licensed images, and real xenograft follow-up."""
