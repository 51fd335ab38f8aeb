"""The names of verifications: those that Prembly gives several, and the spellings of each."""
