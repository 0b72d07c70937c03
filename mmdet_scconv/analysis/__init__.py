"""What the tools compute and write: complexity, the paper's rows, tables."""
