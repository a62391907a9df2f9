"""Other projects' engines, with the methods of this library in them."""
