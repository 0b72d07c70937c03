"""An SCConv network from the weights of a dense one."""
