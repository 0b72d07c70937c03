"""The paper's tables: their rows, what each counts, and what was measured."""
