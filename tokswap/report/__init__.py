"""What a run says: the record for machines, the card and the tables for people."""
