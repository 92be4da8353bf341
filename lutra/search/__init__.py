"""Search: spaces, efficiency and accuracy predictors, algorithms, results."""
