"""What the assets talk to: the user's files, the warehouse, the language model, the judge, the store of trained models."""
