"""What is shown: documents for programs, tables and texts for people; made of rows, without any effect."""
