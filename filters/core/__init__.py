"""What every filter shares: the declaration, votes, exact selection, identity and errors."""
