"""What runs yielded: raw pages, documents, tables, and what differs between two of them."""
