"""What is learned: from batches to losses and scores."""
