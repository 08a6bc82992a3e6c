"""What tests share: it drives real programs, and knows what is true of them."""
