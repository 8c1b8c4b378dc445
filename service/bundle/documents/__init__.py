"""What a bundle says of itself to others: its bill of materials and its model card."""
