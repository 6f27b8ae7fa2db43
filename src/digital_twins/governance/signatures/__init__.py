"""Electronic signatures: what is stated, who may state it, where it is kept, and how anybody checks it."""
