"""Near duplicates: records that repeat another one in nearly the same words, or in other words."""
